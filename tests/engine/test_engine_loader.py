"""Objects loaded into the running kernel do what their C sources say."""

from __future__ import annotations

import ctypes
import gzip
import mmap
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.btf import Btf
from tracebee.engine.kernel.loader import LoadedObject, load_object
from tracebee.engine.kernel.sections import attach_section
from tracebee.errors import EncodeError, SymbolError, UnsupportedError, VerifierError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.variables import decode_value, find_variable, with_variable

pytestmark = [pytest.mark.needs("bpf", "clang")]
PACKET = bytes(14)
LONG_PACKET = bytes(40)  # programs are given what is behind the Ethernet header: 26 bytes


def value(loaded: LoadedObject, name: str) -> object:
    variable = find_variable(loaded.object, name)
    memory = loaded.memory[variable.map]
    data = bytes(memory[variable.offset : variable.offset + variable.size])
    return decode_value(Btf.from_bytes(loaded.object.btf), variable.type_id, data)


def test_maps_of_maps_and_tail_calls(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("maps"))) as loaded:
        assert loaded.programs["jump"].test_run(data=PACKET).retval == 7
        assert loaded.programs["store"].test_run(data=PACKET).retval == 42
        assert loaded.maps["inner_b"].lookup(bytes(4)) == (42).to_bytes(8, "little")


def test_globals_are_shared_with_python(compiled: Callable[[str], str]) -> None:
    obj = with_variable(with_variable(read_object(compiled("globals")), "limit", 1000), "custom", 0)
    with load_object(obj) as loaded:
        assert loaded.programs["first"].test_run(data=PACKET).retval == 1002
        assert value(loaded, "counter") == 1
        assert value(loaded, "pair") == {"a": -5, "b": [3, 5]}
        assert value(loaded, "greeting") == "hello"
        assert list(loaded.programs) == ["first"]
    with load_object(obj, programs=lambda p: p.name == "second") as loaded:
        assert loaded.programs["second"].test_run(data=PACKET).retval == sum(range(10)) + 0 + ord("h")


def test_values_that_do_not_fit_are_refused(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("globals"))
    with pytest.raises(EncodeError, match="does not fit"):
        with_variable(obj, "limit", 1 << 40)
    with pytest.raises(SymbolError, match="no global variable 'limits'") as caught:
        with_variable(obj, "limits", 1)
    assert "limit" in caught.value.candidates


@pytest.mark.needs("kconfig")
def test_kconfig_values_and_missing_symbols(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("externs"))) as loaded:
        loaded.programs["values"].test_run(data=PACKET)
        major, minor = (int(n) for n in os.uname().release.split(".")[:2])
        version = value(loaded, "version")
        assert isinstance(version, int)
        assert version >> 8 == major << 8 | minor
        assert value(loaded, "hz") == int(_config("CONFIG_HZ"))
        assert value(loaded, "has_bpf") is True
        assert value(loaded, "jit") == 1
        assert value(loaded, "missing") == 0
        assert value(loaded, "no_symbol") == 1
        assert value(loaded, "hostname") == _config("CONFIG_DEFAULT_HOSTNAME").strip('"')


def _config(name: str) -> str:
    """A setting as the kernel's own text has it."""
    boot = Path(f"/boot/config-{os.uname().release}")
    text = (
        boot.read_text() if boot.exists() else gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    )
    return next(line for line in text.split("\n") if line.startswith(f"{name}=")).partition("=")[2]


def test_without_a_configuration_only_weak_settings_do(
    compiled: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracebee.engine.kernel.kconfig.read_config", lambda: None)
    obj = read_object(compiled("externs"))
    with pytest.raises(UnsupportedError, match=r"neither /proc/config\.gz nor /boot") as caught:
        load_object(obj)
    assert "__weak" in (caught.value.hint or "")
    weak = obj._replace(externs=tuple(e._replace(weak=True) for e in obj.externs))
    with load_object(weak) as loaded:
        loaded.programs["values"].test_run(data=PACKET)
        assert (value(loaded, "hz"), value(loaded, "jit"), value(loaded, "hostname")) == (0, 0, "")
        assert value(loaded, "version") != 0  # not from the configuration


def test_kfuncs_load_and_a_missing_weak_one_is_poisoned(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("kfuncs"))) as loaded:
        assert loaded.programs["exec"].info().run_cnt == 0


def test_a_refused_program_leaves_nothing_open(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("legacy"))
    (program,) = obj.programs
    # Without its last instruction the program runs off its end.
    broken = program.function._replace(insns=program.function.insns[:-1])
    with pytest.raises(VerifierError) as caught:
        load_object(obj._replace(programs=(program._replace(function=broken),)))
    assert "last insn is not an exit or jmp" in caught.value.log


def test_what_the_kernel_lacks_is_named(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("missing"))
    with pytest.raises(VerifierError) as caught:
        load_object(obj)
    assert "struct task_struct___mine.no_such_member" in caught.value.message
    assert "bpf_core_field_exists" in (caught.value.hint or "")


def test_core_relocations_find_what_moved_and_what_is_missing(compiled: Callable[[str], str]) -> None:
    from tracebee.kernel.link import Link

    kernel = Btf.vmlinux()
    fields = {m.name for m in kernel.struct("struct task_struct").members}
    with load_object(read_object(compiled("core"))) as loaded:
        with Link.raw_tracepoint(loaded.programs["exec"], "sched_process_exec"):
            child = subprocess.Popen(["/bin/true"])
            assert child.wait() == 0
            # Others may exec meanwhile, so the last one is made to be ours.
            while value(loaded, "pid") != child.pid:
                child = subprocess.Popen(["/bin/true"])
                child.wait()
        assert value(loaded, "tgid") == value(loaded, "leader") == child.pid
        assert value(loaded, "comm") == "true"
        assert value(loaded, "has_old") == int("state" in fields)
        assert value(loaded, "has_new") == int("__state" in fields)
        assert value(loaded, "exists") == 1
        assert value(loaded, "has_missing") == 0
        assert value(loaded, "type_size") == kernel.struct("struct task_struct").size
        assert value(loaded, "cmd") == 5  # BPF_PROG_LOAD


@pytest.mark.needs("fentry")
def test_a_function_of_a_loaded_program_is_replaced(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("replace_target"))) as target:
        rate = target.programs["rate"]
        assert rate.test_run(data=LONG_PACKET).retval == 26 + 1
        with load_object(read_object(compiled("replace")), attach_fd=rate.fd) as loaded:
            links = attach_section(loaded, "better")
            assert rate.test_run(data=LONG_PACKET).retval == 26 * 100
            assert value(loaded, "calls") == 1
            for link in links:
                link.close()
        assert rate.test_run(data=LONG_PACKET).retval == 26 + 1


def test_replacing_needs_a_program(compiled: Callable[[str], str]) -> None:
    with pytest.raises(UnsupportedError, match="'better' needs the program it replaces a function of"):
        load_object(read_object(compiled("replace")))


def test_replacing_needs_a_function_of_that_program(compiled: Callable[[str], str]) -> None:
    with (
        load_object(read_object(compiled("typed"))) as other,
        pytest.raises(SymbolError, match="program 'remember' has no function 'score'"),
    ):
        load_object(read_object(compiled("replace")), attach_fd=other.programs["remember"].fd)


@pytest.mark.needs("arena")
def test_arena(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("arena"))) as loaded:
        assert loaded.programs["allocate"].test_run().retval == 1
        memory = loaded.memory["arena"]
        assert len(memory) == 10 * mmap.PAGESIZE
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        address = value(loaded, "address")
        assert isinstance(address, int)
        assert 0 <= address - start <= 8 * mmap.PAGESIZE


def test_kernel_pointers_in_maps_and_constants_in_a_section_of_their_own(
    compiled: Callable[[str], str],
) -> None:
    with load_object(read_object(compiled("typed"))) as loaded:
        assert loaded.programs["remember"].test_run(ctx=bytes(16)).retval == 100
        assert value(loaded, "result") == os.getpid()
        assert value(loaded, "factors") == [1, 10, 100, 1000]
        pointer, count = struct.unpack_from("=Qi", loaded.maps["seen"].lookup(bytes(4)) or b"")
        assert count == 100
        assert pointer != 0


def test_global_functions_are_verified_by_themselves(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("separate"))
    with load_object(obj) as loaded:
        assert loaded.programs["safe"].test_run(data=LONG_PACKET).retval == 26
    with pytest.raises(VerifierError) as caught:
        load_object(obj, programs=lambda p: p.name == "unsafe")
    assert "read_global" in caught.value.log
    assert "mem_or_null" in caught.value.log
