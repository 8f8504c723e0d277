"""Generated code, read over by a person once: each file has a program's IR and the instructions for it.

``TRACEBEE_BLESS=1`` in the environment writes them anew; read the difference before keeping it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.ir import CTX, I64, Builder, Function, Module, compile_module
from tracebee.ir.check import check
from tracebee.ir.dump import dump_function
from tracebee.isa.disasm import disassemble
from tracebee.obj.model import CoreReloc

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, Callable[[Builder], None]] = {}


def case(write: Callable[[Builder], None]) -> Callable[[Builder], None]:
    CASES[write.__name__] = write
    return write


@case
def count_by_name(b: Builder) -> None:
    """A key on the stack, addressed from r10; the look-up's result stays in r0."""
    key = b.alloca(16, 8, "comm")
    b.helper("get_current_comm", key, 16)
    entry = b.helper("map_lookup_elem", b.map_ref("AT"), key)
    have, new, end = b.block("have"), b.block("new"), b.block("end")
    b.branch(entry, have, new)
    b.at(have)
    b.store(entry, 0, 8, b.binary("add", b.load(entry, 0, 8), 1))
    b.jump(end)
    b.at(new)
    one = b.alloca(8)
    b.store(one, 0, 8, 1)
    b.helper("map_update_elem", b.map_ref("AT"), key, one, 0)
    b.jump(end)
    b.at(end)
    b.ret(0)


@case
def immediates(b: Builder) -> None:
    """32-bit immediates, 32-bit moves for constants that fit unsigned, wide loads for the others."""
    x = b.load(b.param(0), 0, 8)
    x = b.binary("add", x, -5)
    x = b.binary("xor", x, 0xFFFFFFFF)
    x = b.binary("or", x, 0x123456789)
    b.ret(b.binary("mul", x, 7))


@case
def powers_of_two(b: Builder) -> None:
    """Unsigned multiplication, division and remainder by powers of two are shifts and masks."""
    x = b.load(b.param(0), 0, 8)
    y = b.binary("umod", b.binary("udiv", x, 8), 4096)
    b.ret(b.binary("sub", b.binary("mul", x, 16), y))


@case
def one_helper_call(b: Builder) -> None:
    """Two reads of the pid and the tid make one call."""
    pid = b.binary("lshr", b.helper("get_current_pid_tgid"), 32)
    tid = b.extend(b.helper("get_current_pid_tgid"), 32, False)
    b.ret(b.binary("sub", tid, pid))


@case
def values_across_calls(b: Builder) -> None:
    """What lives across a call is in r6 to r9, the context only as long as it is needed."""
    x = b.load(b.param(0), 8, 8)
    start = b.helper("ktime_get_ns")
    y = b.load(b.param(0), 16, 8)
    end = b.helper("ktime_get_ns")
    b.ret(b.binary("add", b.binary("sub", end, start), b.binary("add", x, y)))


@case
def spilled(b: Builder) -> None:
    """Five values across a call: one is stored where it is made and read back where it is used."""
    values = [b.helper("get_prandom_u32") for _ in range(5)]
    total = b.helper("ktime_get_ns")
    for value in values:
        total = b.binary("xor", total, value)
    b.ret(total)


@case
def short_circuit(b: Builder) -> None:
    """``a && b`` through a local of 0 or 1 becomes two branches."""
    both = b.local("both")
    second, known, then, end = b.block("second"), b.block("known"), b.block("then"), b.block("end")
    b.set(both, 0)
    b.branch(b.compare("eq", b.load(b.param(0), 0, 8), 7), second, known)
    b.at(second)
    b.set(both, b.compare("ugt", b.load(b.param(0), 8, 8), 9))
    b.jump(known)
    b.at(known)
    b.branch(b.compare("ne", b.get(both), 0), then, end)
    b.at(then)
    b.helper("trace_printk", b.data_ref("rodata", 0), 3)
    b.jump(end)
    b.at(end)
    b.ret(0)


@case
def loop(b: Builder) -> None:
    """Phis share a register with what comes round: the loop holds no moves."""
    index, total = b.local("i"), b.local("total")
    head, body, out = b.block("head"), b.block("body"), b.block("out")
    b.set(index, 0)
    b.set(total, b.load(b.param(0), 0, 8))
    b.jump(head)
    b.at(head)
    b.branch(b.compare("ult", b.get(index), 10), body, out)
    b.at(body)
    b.set(total, b.binary("add", b.get(total), b.get(index)))
    b.set(index, b.binary("add", b.get(index), 1))
    b.jump(head)
    b.at(out)
    b.ret(b.get(total))


@case
def extensions(b: Builder) -> None:
    """CPU version 3: masks, a 32-bit move, shift pairs. What is narrow already is left alone."""
    x = b.load(b.param(0), 0, 8)
    narrow = b.extend(b.load(b.param(0), 8, 2), 32, False)
    total = b.binary("add", b.extend(x, 8, False), b.extend(x, 32, False))
    total = b.binary("add", total, b.extend(x, 16, True))
    b.ret(b.binary("add", total, narrow))


@case
def condition_as_number(b: Builder) -> None:
    """A comparison that is not only branched on; a select takes its comparison in."""
    x, y = b.load(b.param(0), 0, 8), b.load(b.param(0), 8, 8)
    less = b.compare("slt", x, y)
    b.ret(b.binary("add", less, b.select(b.compare("uge", x, 3), y, 100)))


@case
def bit_test(b: Builder) -> None:
    """A mask that is only compared with 0 is a jump's own test."""
    then, end = b.block("then"), b.block("end")
    b.branch(b.compare("eq", b.binary("and", b.load(b.param(0), 0, 8), 0x40), 0), then, end)
    b.at(then)
    b.ret(1)
    b.at(end)
    b.ret(0)


@case
def fill_and_copy(b: Builder) -> None:
    """The widest aligned accesses; offsets of pointers folded into them."""
    source = b.helper("map_lookup_elem", b.map_ref("m"), b.data_ref("rodata", 4))
    have, end = b.block("have"), b.block("end")
    b.branch(source, have, end)
    b.at(have)
    target = b.alloca(32)
    b.memset(target, 0, 0, 13)
    b.memcpy(target, 13, source, 3, 3)
    b.memcpy(b.binary("add", target, 16), 0, b.binary("add", source, 8), 0, 12)
    b.helper("map_update_elem", b.map_ref("m"), target, b.binary("add", target, 16), 0)
    b.jump(end)
    b.at(end)
    b.ret(0)


@case
def large_object(b: Builder) -> None:
    """Scratch memory is looked up after the condition under which it is needed."""
    then, end = b.block("then"), b.block("end")
    b.branch(b.compare("eq", b.load(b.param(0), 0, 8), 1), then, end)
    b.at(then)
    buffer = b.alloca(256, 8, "buffer")
    b.helper("probe_read_user_str", buffer, 256, b.load(b.param(0), 8, 8))
    b.helper("ringbuf_output", b.map_ref("events"), buffer, 256, 0)
    b.jump(end)
    b.at(end)
    b.ret(0)


@case
def kernel_field(b: Builder) -> None:
    """A CO-RE offset is an immediate of the addition, and of a load its offset."""
    task = b.helper("get_current_task_btf")
    pid = b.load(task, 0, 4, core=CoreReloc(0, "struct task_struct", "pid"))
    slot = b.alloca(8)
    field = b.binary("add", task, b.core(CoreReloc(0, "struct task_struct", "comm")))
    b.helper("probe_read_kernel", slot, 8, field)
    b.ret(b.binary("add", pid, b.load(slot, 0, 8)))


@case
def same_key_twice(b: Builder) -> None:
    """Two keys of the same contents are one object."""
    tid = b.extend(b.helper("get_current_pid_tgid"), 32, False)
    first = b.alloca(4, 4)
    b.store(first, 0, 4, tid)
    entry = b.helper("map_lookup_elem", b.map_ref("start"), first)
    have, end = b.block("have"), b.block("end")
    b.branch(entry, have, end)
    b.at(have)
    second = b.alloca(4, 4)
    b.store(second, 0, 4, tid)
    b.helper("map_delete_elem", b.map_ref("start"), second)
    b.jump(end)
    b.at(end)
    b.ret(0)


@case
def atomics(b: Builder) -> None:
    """Plain, with the old value, and compare-and-exchange by way of r0."""
    counter = b.data_ref("bss", 16)
    b.atomic("add", counter, 0, 8, 1)
    old = b.atomic("or", counter, 8, 8, 4, fetch=True)
    b.ret(b.atomic("cmpxchg", counter, 16, 8, old, expected=b.load(b.param(0), 0, 8)))


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    module = Module()
    function: Function = module.function(name, (CTX,), result=I64)
    CASES[name](Builder(function))
    before = dump_function(function)
    compiled = compile_module(module, after_pass=lambda _name, f: check(f))
    text = "\n".join([before, *disassemble(compiled.functions[0].insns), ""])
    path = GOLDEN / f"{name}.txt"
    if "TRACEBEE_BLESS" in os.environ:
        path.write_text(text)
    assert path.read_text() == text
