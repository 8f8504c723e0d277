"""Programs laid out: which functions are in them, and in which order."""

from __future__ import annotations

import pytest

from tracebee.errors import DecodeError
from tracebee.isa.insn import BPF_CALL, BPF_EXIT, BPF_JMP, BPF_PSEUDO_CALL, Insn
from tracebee.obj.image import build_image
from tracebee.obj.model import Function, Object, ProgramDef, Reloc, RelocKind


def function(name: str, *calls: str, callback: str = "") -> Function:
    insns = (*(Insn(BPF_JMP | BPF_CALL, src=BPF_PSEUDO_CALL) for _ in calls), Insn(BPF_JMP | BPF_EXIT))
    relocs = tuple(Reloc(i, RelocKind.CALL, call) for i, call in enumerate(calls))
    return Function(name, insns, relocs, exception_callback=callback)


def layout(*functions: Function) -> list[str]:
    program = ProgramDef(functions[0], "socket", 1)
    image = build_image(Object("x", "GPL", (), (program,), functions[1:]), program)
    for slot, insn in enumerate(image.insns):
        if insn.opcode == BPF_JMP | BPF_CALL:
            assert slot + 1 + insn.imm in {start for start, _ in image.functions}
    return [f.name for _, f in image.functions]


def test_functions_follow_their_first_callers() -> None:
    """As libbpf has them: first all that the first one called needs."""
    functions = (
        function("main", "a", "b"),
        function("b", "c", "d"),
        function("c", "c"),
        function("d", "a"),
        function("a", "d", "e"),
        function("e", "main"),
        function("unused", "a"),
    )
    assert layout(*functions) == ["main", "a", "d", "e", "b", "c"]


def test_an_exception_callback_comes_last_with_what_it_needs() -> None:
    functions = (
        function("main", "a", callback="handler"),
        function("handler", "a", "b"),
        function("b"),
        function("a"),
    )
    assert layout(*functions) == ["main", "a", "handler", "b"]
    assert layout(function("main", "handler", callback="handler"), function("handler")) == ["main", "handler"]


def test_long_chains_of_calls() -> None:
    names = [f"f{i}" for i in range(5000)]
    chain = [function(name, after) for name, after in zip(names, [*names[1:], "f0"], strict=True)]
    assert layout(*chain) == names


def test_calls_of_what_is_not_there() -> None:
    with pytest.raises(DecodeError, match="a calls b, which the object does not have"):
        layout(function("main", "a"), function("a", "b"))
