"""Control flow made simpler: decided branches, empty blocks, blocks that only follow one another."""

from __future__ import annotations

from tracebee.ir.dominators import Dominators
from tracebee.ir.fold import compare
from tracebee.ir.rewrite import rewrite
from tracebee.ir.value import Block, Function, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def simplify_branches(function: Function) -> bool:
    """Repeat the rewrites below until none applies. Whether one did."""
    any_changed = False
    changed = True
    while changed:
        function.link()
        changed = _decide(function)
        function.link()
        changed = _thread_known_phis(function) or changed
        function.link()
        changed = _skip_empty(function) or changed
        function.link()
        changed = _merge(function) or changed
        any_changed = any_changed or changed
    function.link()
    return any_changed


def _decide(function: Function) -> bool:
    """Branches on constants, and branches both of whose sides are one block, become jumps."""
    changed = False
    for block in function.blocks:
        last = block.insns[-1]
        if last.op != "br":
            continue
        condition = last.args[0]
        then, else_ = last.aux
        if condition.op == "const" or then is else_:
            taken = then if then is else_ or condition.aux else else_
            last.op, last.args, last.aux = "jump", [], taken
            changed = True
    return changed


def _redirect(pred: Block, old: Block, new: Block, input_of: Callable[[Value], Value]) -> bool:
    """Send ``pred``'s edge to ``old`` on to ``new``; ``input_of`` gives the inputs of ``new``'s phis.

    Refused (False) when ``pred`` already goes to ``new`` and that has phis.
    """
    phis = list(new.phis())
    if phis and new in pred.succs:
        return False
    for phi in phis:
        phi.args.append(input_of(phi))
        phi.aux = (*phi.aux, pred)
    last = pred.insns[-1]
    if last.op == "jump":
        last.aux = new
    else:
        last.aux = tuple(new if b is old else b for b in last.aux)
    old.preds.remove(pred)
    if pred not in new.preds:
        new.preds.append(pred)
    return True


def _skip_empty(function: Function) -> bool:
    """Go straight to where a block that holds only a jump goes."""
    changed = False
    for block in function.blocks[1:]:
        if len(block.insns) != 1 or block.insns[0].op != "jump" or block.insns[0].aux is block:
            continue
        target: Block = block.insns[0].aux
        for pred in list(block.preds):

            def passed(phi: Value, block: Block = block) -> Value:
                value: Value = phi.args[phi.aux.index(block)]
                return value

            changed = _redirect(pred, block, target, passed) or changed
        if not block.preds:
            _forget_pred(target, block)
    return changed


def _forget_pred(block: Block, pred: Block) -> None:
    if pred in block.preds:
        block.preds.remove(pred)
    for phi in block.phis():
        if pred in phi.aux:
            at = phi.aux.index(pred)
            del phi.args[at]
            phi.aux = phi.aux[:at] + phi.aux[at + 1 :]


def _merge(function: Function) -> bool:
    """Append a block to its only predecessor, when that has no other way to go."""
    replaced: dict[Value, Value] = {}
    gone: set[Block] = set()
    for block in function.blocks:
        if block in gone:
            continue
        while block.insns[-1].op == "jump":
            follower: Block = block.insns[-1].aux
            if len(follower.preds) != 1 or follower is function.entry or follower is block:
                break
            block.insns.pop()
            for insn in follower.insns:
                if insn.op == "phi":
                    replaced[insn] = insn.args[0]
                else:
                    insn.block = block
                    block.insns.append(insn)
            for succ in block.succs:
                succ.preds = [block if p is follower else p for p in succ.preds]
                for phi in succ.phis():
                    phi.aux = tuple(block if p is follower else p for p in phi.aux)
            gone.add(follower)
    rewrite(function, replaced)
    return bool(gone)


def _thread_known_phis(function: Function) -> bool:
    """A predecessor that brings a constant to a block which only branches on it goes straight on.

    The block holds a phi, perhaps a comparison of it with a constant, and the branch. This is how
    ``&&`` and ``||`` end up, and a look-up whose value is 0 when there is no entry.
    """
    candidates = [(b, p) for b in function.blocks[1:] if (p := _known_phi_branch(b)) is not None]
    if not candidates:
        return False
    # A new edge starts below whatever dominates where it leads by a single way in: the tree's
    # answers about such blocks stay true throughout.
    users, dominators = _users(function), Dominators(function)
    changed = False
    for block, (phi, test, branch) in candidates:
        if test is not None and len(users[test]) != 1:
            continue
        for arg, pred in list(zip(phi.args, phi.aux, strict=True)):
            if arg.op != "const" or pred is block:
                continue
            number = arg.aux if test is None else int(compare(test.aux, arg.aux, test.args[1].aux))
            target, other = branch.aux if number else reversed(branch.aux)
            if target is block or not _is_used_behind(phi, block, target, other, users, dominators):
                continue

            def passed(
                into: Value, arg: Value = arg, phi: Value = phi, block: Block = block, target: Block = target
            ) -> Value:
                value = into.args[into.aux.index(block)]
                value = arg if value is phi else value
                users.setdefault(value, []).append((target, into))
                return value

            if _redirect(pred, block, target, passed):
                at = phi.aux.index(pred)
                del phi.args[at]
                phi.aux = phi.aux[:at] + phi.aux[at + 1 :]
                changed = True
    return changed


def _is_used_behind(
    phi: Value,
    block: Block,
    target: Block,
    other: Block,
    users: dict[Value, list[tuple[Block, Value]]],
    dominators: Dominators,
) -> bool:
    """Whether what uses the phi, outside its block, still is behind it once ``target`` has another way in.

    That holds behind the branch's other side, and for phis of the target.
    """
    for home, user in users[phi]:
        if home is block:
            continue
        if user.op == "phi":
            inputs = [p for a, p in zip(user.args, user.aux, strict=True) if a is phi]
            if home is target and inputs == [block]:
                continue
            homes = inputs
        else:
            homes = [home]
        if len(other.preds) != 1 or not all(
            place is block or dominators.dominates(other, place) for place in homes
        ):
            return False
    return True


def _known_phi_branch(block: Block) -> tuple[Value, Value | None, Value] | None:
    """(phi, comparison or None, branch) when the block holds just these and an input is constant."""
    insns = block.insns
    if len(insns) not in (2, 3) or insns[0].op != "phi" or insns[-1].op != "br":
        return None
    phi, branch = insns[0], insns[-1]
    if not any(a.op == "const" for a in phi.args):
        return None
    if len(insns) == 2:
        return (phi, None, branch) if branch.args[0] is phi else None
    test = insns[1]
    if test.op != "compare" or test.args[0] is not phi or test.args[1].op != "const":
        return None
    return (phi, test, branch) if branch.args[0] is test else None


def _users(function: Function) -> dict[Value, list[tuple[Block, Value]]]:
    """For each value, the instructions that use it and their blocks."""
    users: dict[Value, list[tuple[Block, Value]]] = {}
    for block in function.blocks:
        for insn in block.insns:
            for arg in insn.args:
                users.setdefault(arg, []).append((block, insn))
    return users
