"""The helper table against the running kernel's own enumerations."""

import pytest

from tracebee.btf.reader import Btf
from tracebee.isa.helpers import BY_NAME, BY_NUMBER, FIXED_SIZES, HELPERS


@pytest.mark.needs("btf")
def test_names_and_numbers_are_the_kernels() -> None:
    kernel = {
        e.name.removeprefix("BPF_FUNC_"): e.value
        for e in Btf.vmlinux().enumerators("bpf_func_id")
        if e.name not in ("BPF_FUNC_unspec", "__BPF_FUNC_MAX_ID")
    }
    ours = {helper.name: helper.number for helper in HELPERS}
    assert {name: ours.get(name) for name in kernel} == kernel


@pytest.mark.needs("btf")
def test_kinds_and_flags_are_the_kernels() -> None:
    btf = Btf.vmlinux()
    arguments = {e.name.removeprefix("ARG_") for e in btf.enumerators("bpf_arg_type")}
    results = {e.name.removeprefix("RET_") for e in btf.enumerators("bpf_return_type")}
    flags = {e.name for e in btf.enumerators("bpf_type_flag")}
    for helper in HELPERS:
        for kind in helper.arg_kinds:
            base, *modifiers = kind.split("|")
            assert base in arguments, helper
            assert set(modifiers) <= flags, helper
        base, *modifiers = helper.ret.split("|")
        assert base in results, helper
        assert set(modifiers) <= flags, helper


def test_lookups() -> None:
    assert BY_NUMBER[1] is BY_NAME["map_lookup_elem"]
    assert len(BY_NAME) == len(BY_NUMBER) == len(HELPERS)
    assert BY_NAME["map_update_elem"].arg_count == 4
    assert BY_NAME["ktime_get_ns"].arg_count == 0


def test_prototypes_have_the_arguments_of_their_kinds() -> None:
    for helper in HELPERS:
        params = [] if helper.params == "void" else helper.params.split(", ")
        if params and params[-1] == "...":
            assert helper.arg_count == 5
        else:
            assert helper.arg_count == len(params), helper.name


def test_sizes_follow_memory() -> None:
    """As the kernel's check_raw_mode_ok and check_arg_pair_ok demand of its own table."""
    for helper in HELPERS:
        kinds = helper.arg_kinds
        for before, kind in zip(("", *kinds), kinds, strict=False):
            if kind.startswith("CONST_SIZE"):
                assert before.startswith("PTR_TO_MEM"), helper.name


def test_pure_helpers_write_nothing() -> None:
    pure = [helper for helper in HELPERS if helper.pure]
    assert BY_NAME["get_current_pid_tgid"] in pure
    assert not any("MEM_WRITE" in helper.args or "MEM_UNINIT" in helper.args for helper in pure)
    for name in ("ktime_get_ns", "get_prandom_u32", "get_current_comm", "map_lookup_elem"):
        assert not BY_NAME[name].pure


def test_fixed_sizes_cover_the_arguments_that_need_one() -> None:
    marked = {helper.name for helper in HELPERS if "MEM_FIXED_SIZE" in helper.args}
    assert marked == set(FIXED_SIZES)
