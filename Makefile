# Two words run the project from a fresh checkout: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEST_ARGUMENTS ?=
CMD ?= uname -a

.PHONY: help venv dependencies demo test check format bench guest clean

help:
	@echo "make demo    trace a real workload on this machine and print the result"
	@echo "make test    run every test this machine can run, and the rest in a guest kernel"
	@echo "make check   formatting, lint, types"
	@echo "make bench   measure side by side with bpftrace"
	@echo "make guest CMD='...'   run a command in the guest kernel; SERIES=6.1 takes an older one"

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q --group dev --editable .
	touch $@

dependencies:
	@.ci/dependencies

demo: venv
	$(BIN)/python demo/run.py

test: venv dependencies
	$(BIN)/python tests/run.py $(TEST_ARGUMENTS)

check: venv
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: venv
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: venv dependencies
	$(BIN)/python bench/run.py

guest: venv dependencies
	$(BIN)/python tests/guest/boot.py $(if $(SERIES),--series $(SERIES)) -- sh -c '$(CMD)'

clean:
	rm -rf $(VENV) .cache build dist
