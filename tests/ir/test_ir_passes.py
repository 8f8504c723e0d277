"""What each pass does, on the smallest programs that show it."""

from __future__ import annotations

import pytest

from tracebee.ir import I64, Builder, Function, Module, Value
from tracebee.ir.branches import simplify_branches
from tracebee.ir.check import IrError, check
from tracebee.ir.dce import eliminate_dead
from tracebee.ir.dominators import Dominators
from tracebee.ir.frame import place_objects
from tracebee.ir.gvn import number_values
from tracebee.ir.mem2reg import mem2reg
from tracebee.ir.objects import merge_objects
from tracebee.ir.selects import make_selects
from tracebee.ir.width import width


@pytest.fixture
def b() -> Builder:
    return Builder(Module().function("f"))


def ops(function: Function) -> list[str]:
    return [i.op for block in function.blocks for i in block.insns]


def word(b: Builder, number: int = 0) -> Value:
    return b.load(b.param(0), 8 * number, 8)


def result(function: Function) -> Value:
    return function.blocks[-1].insns[-1].args[0]


def test_mem2reg_makes_a_phi_where_paths_meet(b: Builder) -> None:
    x = b.local("x")
    then, end = b.block("then"), b.block("end")
    b.set(x, 1)
    b.branch(word(b), then, end)
    b.at(then)
    b.set(x, 2)
    b.jump(end)
    b.at(end)
    b.ret(b.get(x))
    mem2reg(b.function)
    check(b.function)
    phi = result(b.function)
    assert phi.op == "phi"
    assert sorted((a.aux, p.name) for a, p in zip(phi.args, phi.aux, strict=True)) == [
        (1, "entry"),
        (2, "then"),
    ]


def test_mem2reg_makes_no_phi_for_what_a_loop_only_reads(b: Builder) -> None:
    x, i = b.local("x"), b.local("i")
    head, body, out = b.block("head"), b.block("body"), b.block("out")
    b.set(x, word(b))
    b.jump(head)
    b.at(head)
    b.branch(b.compare("ult", b.get(i), b.get(x)), body, out)
    b.at(body)
    b.set(i, b.binary("add", b.get(i), b.get(x)))
    b.jump(head)
    b.at(out)
    b.ret(b.get(x))
    mem2reg(b.function)
    check(b.function)
    assert ops(b.function).count("phi") == 1
    assert result(b.function).op == "load"


def test_mem2reg_takes_scalar_objects(b: Builder) -> None:
    slot = b.alloca(4, 4)
    b.store(slot, 0, 4, word(b))
    b.ret(b.load(slot, 0, 4, signed=True))
    mem2reg(b.function)
    found = result(b.function)
    assert (found.op, found.aux, found.args[0].op) == ("extend", (32, True), "load")
    assert "alloca" not in ops(b.function)


def test_mem2reg_leaves_objects_whose_address_is_used(b: Builder) -> None:
    slot = b.alloca(8)
    b.store(slot, 0, 8, 1)
    b.helper("map_lookup_elem", b.map_ref("m"), slot)
    b.ret(b.load(slot, 0, 8))
    mem2reg(b.function)
    assert "alloca" in ops(b.function)


def test_a_local_is_0_before_it_is_set(b: Builder) -> None:
    b.ret(b.get(b.local("x")))
    mem2reg(b.function)
    assert (result(b.function).op, result(b.function).aux) == ("const", 0)


def test_pure_helpers_are_called_once_others_each_time(b: Builder) -> None:
    for name in ("get_current_pid_tgid", "get_prandom_u32"):
        b.helper(name)
        b.helper(name)
    b.ret(0)
    number_values(b.function)
    called = [i.aux for i in b.function.entry.insns if i.op == "helper"]
    assert called.count("get_current_pid_tgid") == 1
    assert called.count("get_prandom_u32") == 2


def test_only_the_context_is_read_once(b: Builder) -> None:
    value = b.helper("map_lookup_elem", b.map_ref("m"), b.data_ref("rodata"))
    have, end = b.block("have"), b.block("end")
    b.branch(value, have, end)
    b.at(have)
    total = b.binary("add", word(b), word(b))
    for _ in range(2):
        total = b.binary("add", total, b.load(value, 0, 8))
    b.ret(total)
    b.at(end)
    b.ret(0)
    number_values(b.function)
    loads = [i.args[0].type for block in b.function.blocks for i in block.insns if i.op == "load"]
    assert sorted(loads) == ["ctx", "map_value", "map_value"]


@pytest.mark.parametrize(("helper", "loads"), [("skb_pull_data", 2), ("get_stackid", 1)])
def test_the_context_is_read_again_when_a_helper_may_change_it(b: Builder, helper: str, loads: int) -> None:
    before = word(b)
    b.helper(helper, b.param(0), b.map_ref("stacks"), 0)
    b.ret(b.binary("sub", word(b), before))
    number_values(b.function)
    assert ops(b.function).count("load") == loads


def test_values_of_one_branch_are_not_used_in_the_other(b: Builder) -> None:
    then, else_ = b.block("then"), b.block("else")
    b.branch(word(b), then, else_)
    for block in (then, else_):
        b.at(block)
        b.ret(b.binary("mul", word(b, 1), word(b, 2)))
    number_values(b.function)
    check(b.function)
    assert ops(b.function).count("mul") == 2


def test_a_condition_tested_again_is_known(b: Builder) -> None:
    def test() -> Value:
        return b.compare("ult", word(b), 5)

    then, again, other, end = b.block("then"), b.block("again"), b.block("other"), b.block("end")
    b.branch(test(), then, end)
    b.at(then)
    b.branch(test(), again, other)
    for block, value in ((again, 1), (other, 2), (end, 3)):
        b.at(block)
        b.ret(value)
    number_values(b.function)
    simplify_branches(b.function)
    check(b.function)
    assert ops(b.function).count("br") == 1
    assert {i.args[0].aux for block in b.function.blocks for i in block.insns if i.op == "ret"} == {1, 3}


@pytest.mark.parametrize(
    ("op", "y", "expected"),
    [
        ("udiv", 0, "0"),
        ("umod", 0, "x"),
        ("sdiv", 1, "x"),
        ("mul", 0, "0"),
        ("and", -1, "x"),
        ("shl", 64, "x"),
        ("add", 0, "x"),
    ],
)
def test_identities(b: Builder, op: str, y: int, expected: str) -> None:
    x = word(b)
    b.ret(b.binary(op, x, y))
    number_values(b.function)
    found = result(b.function)
    assert found is x if expected == "x" else (found.op, found.aux) == ("const", 0)


def test_a_chain_of_and_through_a_local_is_branches(b: Builder) -> None:
    test = b.local("test")
    second, meet, yes, no = b.block("second"), b.block("meet"), b.block("yes"), b.block("no")
    b.set(test, 0)
    b.branch(b.compare("eq", word(b), 1), second, meet)
    b.at(second)
    b.set(test, b.compare("eq", word(b, 1), 2))
    b.jump(meet)
    b.at(meet)
    b.branch(b.get(test), yes, no)
    b.at(yes)
    b.ret(1)
    b.at(no)
    b.ret(0)
    mem2reg(b.function)
    simplify_branches(b.function)
    check(b.function)
    assert "phi" not in ops(b.function)


def _missing_is_0(b: Builder, used_when_0: bool) -> Function:
    """A look-up's value, 0 when there is no entry, tested and then used."""
    entry = b.helper("map_lookup_elem", b.map_ref("m"), b.data_ref("rodata"))
    before = b.current
    have, read, then, skip = b.block("have"), b.block("read"), b.block("then"), b.block("skip")
    b.branch(entry, have, read)
    b.at(have)
    loaded = b.load(entry, 0, 8)
    b.jump(read)
    b.at(read)
    value = b.phi([(0, before), (loaded, have)])
    b.branch(value, then, skip)
    b.at(then)
    b.ret(b.binary("sub", b.helper("ktime_get_ns"), value))
    b.at(skip)
    b.ret(b.binary("add", value, 1) if used_when_0 else 0)
    simplify_branches(b.function)
    check(b.function)
    return b.function


def test_a_missing_entry_goes_past_the_test(b: Builder) -> None:
    assert "phi" not in ops(_missing_is_0(b, used_when_0=False))


def test_a_value_used_on_both_sides_keeps_its_phi(b: Builder) -> None:
    assert "phi" in ops(_missing_is_0(b, used_when_0=True))


def test_a_branch_around_nothing_is_a_select(b: Builder) -> None:
    x = word(b)
    before = b.current
    empty, end = b.block("empty"), b.block("end")
    b.branch(b.compare("slt", x, 0), empty, end)
    b.at(empty)
    b.jump(end)
    b.at(end)
    b.ret(b.phi([(x, before), (-1, empty)]))
    make_selects(b.function)
    check(b.function)
    assert len(b.function.blocks) == 1
    condition, then, else_ = result(b.function).args
    assert (condition.aux, then.aux, else_) == ("slt", (1 << 64) - 1, x)


def test_dead_code_keeps_effects(b: Builder) -> None:
    slot = b.alloca(8)
    b.store(slot, 0, 8, word(b))
    b.binary("add", word(b, 1), 2)
    b.helper("get_current_pid_tgid")
    b.helper("map_delete_elem", b.map_ref("m"), slot)
    b.ret(0)
    eliminate_dead(b.function)
    assert ops(b.function) == ["alloca", "load", "store", "helper", "ret"]


def test_objects_written_between_are_not_merged(b: Builder) -> None:
    keys = [b.alloca(4, 4) for _ in range(2)]
    b.store(keys[0], 0, 4, 7)
    b.helper("map_lookup_elem", b.map_ref("m"), keys[0])
    b.store(keys[0], 0, 4, 8)
    b.helper("map_delete_elem", b.map_ref("m"), keys[0])
    b.store(keys[1], 0, 4, 7)
    b.helper("map_lookup_elem", b.map_ref("m"), keys[1])
    b.ret(0)
    merge_objects(b.function)
    assert ops(b.function).count("alloca") == 2


def test_objects_a_helper_writes_are_not_merged(b: Builder) -> None:
    for _ in range(2):
        slot = b.alloca(8)
        b.store(slot, 0, 8, 0)
        b.helper("probe_read_kernel", slot, 8, word(b))
        b.helper("map_delete_elem", b.map_ref("m"), slot)
    b.ret(0)
    merge_objects(b.function)
    assert ops(b.function).count("alloca") == 2


def test_objects_share_the_stack_when_their_lives_do_not_meet(b: Builder) -> None:
    for _ in range(10):
        slot = b.alloca(64)
        b.helper("get_current_comm", slot, 16)
        b.helper("map_delete_elem", b.map_ref("m"), slot)
    both = [b.alloca(64), b.alloca(64)]
    for slot in both:
        b.helper("get_current_comm", slot, 16)
    b.helper("map_update_elem", b.map_ref("m"), *both, 0)
    b.ret(0)
    b.function.link()
    frame = place_objects(b.function, 512)
    assert frame.stack_size == 128
    assert {frame.stack[slot] for slot in both} == {-64, -128}


def test_an_object_that_outlives_a_loop_keeps_its_place_in_it(b: Builder) -> None:
    kept = b.alloca(8)
    b.store(kept, 0, 8, 1)
    head, body, out = b.block("head"), b.block("body"), b.block("out")
    b.jump(head)
    b.at(head)
    b.branch(b.helper("get_prandom_u32"), body, out)
    b.at(body)
    inner = b.alloca(8)
    b.store(inner, 0, 8, 2)
    b.helper("map_delete_elem", b.map_ref("m"), inner)
    b.jump(head)
    b.at(out)
    b.helper("map_delete_elem", b.map_ref("m"), kept)
    b.ret(0)
    b.function.link()
    frame = place_objects(b.function, 512)
    assert frame.stack[kept] != frame.stack[inner]


def test_what_does_not_fit_the_stack_goes_to_scratch_the_largest_first(b: Builder) -> None:
    slots = [b.alloca(size) for size in (24, 100, 120)]
    for slot in slots:
        b.helper("probe_read_kernel", slot, slot.aux[0], word(b))
    for slot in slots:
        b.helper("map_delete_elem", b.map_ref("m"), slot)
    b.ret(0)
    b.function.link()
    frame = place_objects(b.function, 128)
    assert set(frame.scratch) == {slots[2]}
    assert set(frame.stack) == set(slots[:2])


def test_dominators(b: Builder) -> None:
    then, else_, end = b.block("then"), b.block("else"), b.block("end")
    entry = b.current
    b.branch(word(b), then, else_)
    for block in (then, else_):
        b.at(block)
        b.jump(end)
    b.at(end)
    b.ret(0)
    b.function.link()
    dominators = Dominators(b.function)
    assert dominators.common([then, else_]) is entry
    assert dominators.dominates(entry, end)
    assert not dominators.dominates(then, end)


def test_width(b: Builder) -> None:
    byte = b.load(b.param(0), 0, 1)
    assert width(byte) == 8
    assert width(b.binary("shl", byte, 4)) == 12
    assert width(b.binary("and", word(b), 0x3FF)) == 10
    assert width(b.binary("add", byte, byte)) == 9
    assert width(b.load(b.param(0), 0, 1, signed=True)) == 64
    assert width(b.compare("eq", byte, 1)) == 1
    assert width(b.binary("sub", byte, byte)) == 64


class TestChecker:
    def fails(self, b: Builder, rule: str) -> None:
        with pytest.raises(IrError, match=rule):
            check(b.function)

    def test_open_block(self, b: Builder) -> None:
        word(b)
        self.fails(b, "does not end")

    def test_use_that_is_not_dominated(self, b: Builder) -> None:
        then, end = b.block("then"), b.block("end")
        b.branch(word(b), then, end)
        b.at(then)
        value = b.binary("add", word(b), 1)
        b.jump(end)
        b.at(end)
        b.ret(value)
        self.fails(b, "not made on every way here")

    def test_phi_without_an_input(self, b: Builder) -> None:
        entry = b.current
        then, end = b.block("then"), b.block("end")
        b.branch(word(b), then, end)
        b.at(then)
        b.jump(end)
        b.at(end)
        b.ret(b.phi([(1, entry), (2, entry)]))
        self.fails(b, "do not match the predecessors")

    def test_access_through_a_number(self, b: Builder) -> None:
        b.load(word(b), 0, 8)
        b.ret(0)
        self.fails(b, "cannot access i64 memory")

    def test_write_to_kernel_memory(self, b: Builder) -> None:
        b.store(b.helper("get_current_task_btf"), 0, 8, 1)
        b.ret(0)
        self.fails(b, "cannot access kernel memory")

    def test_multiplied_pointer(self, b: Builder) -> None:
        b.ret(b.binary("mul", b.param(0), 2))
        self.fails(b, "not for pointers")

    def test_value_of_nothing(self, b: Builder) -> None:
        store = Value("store", (b.alloca(8), b.const(1)), (0, 8, None), "void")
        b.current.insns.append(store)
        b.ret(store)
        self.fails(b, "makes none")

    def test_jump_to_the_entry(self, b: Builder) -> None:
        b.jump(b.current)
        self.fails(b, "jumps to the entry")


def test_types_of_results(b: Builder) -> None:
    assert b.binary("add", b.param(0), 8).type == "ctx"
    assert b.binary("sub", b.param(0), b.param(0)).type == I64
    assert b.helper("map_lookup_elem", b.map_ref("m"), b.alloca(4)).type == "map_value"
