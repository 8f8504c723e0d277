"""Modules: relocations, line information, frames of call chains, dumps and graphs."""

from __future__ import annotations

import pytest

from tracebee.errors import EncodeError, UnsupportedError
from tracebee.ir import CTX, I64, STACK, Builder, Module, compile_module
from tracebee.ir.dump import dump_module
from tracebee.ir.stages import Stages
from tracebee.isa.disasm import disassemble
from tracebee.obj.model import CoreReloc, RelocKind
from tracebee.source import Source, Span


def test_relocations_name_what_the_loader_fills_in() -> None:
    module = Module()
    callee = module.function("callee", (I64,))
    inner = Builder(callee)
    inner.ret(inner.param(0))
    b = Builder(module.function("main", (CTX,)))
    core = CoreReloc(0, "struct task_struct", "pid")
    b.call(callee, 1)
    b.kfunc("bpf_iter_num_destroy", b.alloca(8))
    b.helper("loop", 4, b.func_ref(callee), b.data_ref("data", 24), 0)
    b.helper("map_push_elem", b.map_ref("queue"), b.data_ref("data", 0), 0)
    task = b.helper("get_current_task_btf")
    b.ret(b.load(task, 0, 4, core=core))
    main = compile_module(module).functions[1]
    assert [(r.kind, r.symbol, r.addend, r.core) for r in main.relocs] == [
        (RelocKind.CALL, "callee", 0, None),
        (RelocKind.KFUNC, "bpf_iter_num_destroy", 0, None),
        (RelocKind.FUNC, "callee", 0, None),
        (RelocKind.DATA, "data", 24, None),
        (RelocKind.MAP, "queue", 0, None),
        (RelocKind.DATA, "data", 0, None),
        (RelocKind.CORE, "struct task_struct", 0, core),
    ]
    texts = disassemble(main.insns)
    for reloc in main.relocs:
        if reloc.kind in (RelocKind.CALL, RelocKind.KFUNC):
            assert texts[reloc.at].startswith("call")


def test_lines_start_at_0_and_follow_the_source() -> None:
    module = Module(Source("t.bt", "one\ntwo {\n"))
    b = Builder(module.function("f"))
    with b.span(Span(2, 3, 2, 4)):
        x = b.helper("get_prandom_u32")
    with b.span(Span(1, 1, 1, 4)):
        b.ret(b.binary("add", x, b.helper("ktime_get_ns")))
    lines = compile_module(module).functions[0].lines
    assert [(line.line, line.column, line.text, line.file) for line in lines] == [
        (2, 3, "two {", "t.bt"),
        (1, 1, "one", "t.bt"),
    ]
    assert lines[0].at == 0


def test_frames_of_a_call_chain_share_the_stack() -> None:
    """300 bytes in the callee leave the caller too little for 256: those go to scratch."""
    module = Module()
    callee = module.function("callee", (STACK,))
    inner = Builder(callee)
    slots = [inner.alloca(100) for _ in range(3)]
    for slot in slots:
        inner.helper("probe_read_kernel", slot, 100, 0)
    for slot in slots:
        inner.helper("map_delete_elem", inner.map_ref("m"), slot)
    inner.ret(0)
    b = Builder(module.function("main"))
    mine = [b.alloca(64) for _ in range(4)]
    for slot in mine:
        b.helper("probe_read_kernel", slot, 64, 0)
    b.call(callee, mine[0])
    for slot in mine:
        b.helper("map_delete_elem", b.map_ref("m"), slot)
    b.ret(0)
    compiled = compile_module(module)
    assert compiled.scratch_size >= 64
    assert compiled.scratch_entries == 1


def test_a_frame_that_cannot_fit_is_refused() -> None:
    module = Module()
    b = Builder(module.function("f"))
    values = [b.helper("get_prandom_u32") for _ in range(80)]
    total = b.helper("ktime_get_ns")
    for value in values:
        total = b.binary("xor", b.binary("mul", total, 3), value)
    b.ret(total)
    with pytest.raises(UnsupportedError, match="bytes of stack"):
        compile_module(module)


def _long(module: Module) -> None:
    b = Builder(module.function("long"))
    then, end = b.block("then"), b.block("end")
    b.branch(b.load(b.param(0), 0, 8), then, end)
    b.at(then)
    for _ in range(33000):
        b.helper("ktime_get_ns")
    b.jump(end)
    b.at(end)
    b.ret(0)


def test_far_jumps_need_version_4() -> None:
    module = Module()
    _long(module)
    with pytest.raises(EncodeError, match="16-bit jumps"):
        compile_module(module)
    module = Module()
    _long(module)
    texts = disassemble(compile_module(module, cpu_version=4).functions[0].insns)
    assert any(t.startswith("gotol") for t in texts)


def test_compiling_twice_as_much_takes_no_more_than_twice_the_steps() -> None:
    """Steps are the interpreter's calls: time would depend on the machine."""
    import sys

    def steps(statements: int) -> int:
        module = Module()
        b = Builder(module.function("f"))
        total = b.local("total")
        for number in range(statements):
            then, end = b.block("then"), b.block("end")
            key = b.alloca(16)
            b.helper("get_current_comm", key, 16)
            entry = b.helper("map_lookup_elem", b.map_ref("m"), key)
            b.branch(entry, then, end)
            b.at(then)
            b.set(total, b.binary("add", b.get(total), b.load(entry, 8 * (number % 4), 8)))
            b.jump(end)
            b.at(end)
        b.ret(b.get(total))
        calls = 0

        def count(_frame: object, event: str, _arg: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            compile_module(module)
        finally:
            sys.setprofile(None)
        return calls

    assert steps(400) < 2.2 * steps(200)


def test_dumps() -> None:
    module = Module()
    b = Builder(module.function("f"))
    then, end = b.block("then"), b.block("end")
    with b.span(Span(3, 14, 3, 20)):
        x = b.load(b.param(0), 8, 4)
    b.branch(b.compare("eq", x, 1), then, end)
    b.at(then)
    b.jump(end)
    b.at(end)
    b.ret(x)
    text = dump_module(module)
    assert "  %0 = load u32 %ctx+8                          ; 3:14\n" in text
    stages = Stages()
    compile_module(module, after_pass=stages.record)
    assert "; after lowering\n" in stages.every()
    assert "br" not in stages.final()
