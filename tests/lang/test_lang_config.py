import pytest

from tracebee.errors import Diagnostic
from tracebee.lang import config


@pytest.mark.parametrize("name", ["BPFTRACE_MAX_STRLEN", "MAX_STRLEN", "max_strlen", "bpftrace_max_strlen"])
def test_spellings(name: str) -> None:
    assert config.normalise(name) == "max_strlen"


def test_environment() -> None:
    environment = {
        "BPFTRACE_MAX_STRLEN": "200",
        "BPFTRACE_STACK_MODE": "PERF",
        "BPFTRACE_OTHER": "1",
        "HOME": "/",
    }
    assert config.from_environment(environment) == {"max_strlen": 200, "stack_mode": "perf"}
    with pytest.raises(Diagnostic):
        config.from_environment({"BPFTRACE_MAX_STRLEN": "many"})


@pytest.mark.parametrize("name", config.SETTINGS)
def test_defaults_are_allowed(name: str) -> None:
    default = config.defaults()[name]
    assert default is None or config.check(name, default) == default


def test_suggestions() -> None:
    with pytest.raises(Diagnostic) as caught:
        config.normalise("stack_mod")
    assert caught.value.hint == "did you mean 'stack_mode'?"
