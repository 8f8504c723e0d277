"""State pruning: a path that arrives with nothing new has been looked at already.

A checkpoint keeps the state at a slot, and which stack slots were read on the paths behind it. A
later state at the same slot is covered when everything that still matters is no more than what the
checkpoint had. Source: the kernel's ``is_state_visited``, ``states_equal`` and ``regsafe``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.vm.verifier.liveness import ALL_SLOTS
from tracebee.vm.verifier.state import (
    INVALID,
    MAP_KEY,
    MAP_VALUE,
    MEM,
    MISC,
    PACKET,
    PACKET_META,
    SCALAR,
    SPILL,
    UNINIT,
    ZERO,
    Frame,
    Reg,
    State,
)

if TYPE_CHECKING:
    from tracebee.vm.verifier.liveness import Needs


class Checkpoint:
    """A state seen at a slot.

    :ivar branches: paths below it that are still being looked at.
    :ivar reads: per frame, the stack slots read below it before being written, as bit masks.
    :ivar written: per frame, the stack slots written between its parent and it.
    :ivar complete: whether ``reads`` is all there is; not so when a loop below was cut short.
    """

    __slots__ = ("branches", "complete", "hits", "misses", "parent", "reads", "slot", "state", "written")

    def __init__(self, slot: int, state: State, parent: Checkpoint | None) -> None:
        self.slot = slot
        self.state = state
        self.parent = parent
        self.branches = 1
        self.reads = [0] * len(state.frames)
        self.written = state.written[:]
        self.complete = True
        self.hits = self.misses = 0


class _Ids:
    """Which identity of the old state stands for which of the new one."""

    def __init__(self) -> None:
        self.pairs: dict[int, int] = {}
        self.taken: set[int] = set()

    def same(self, old: int, new: int) -> bool:
        if bool(old) != bool(new):
            return False
        if old == 0:
            return True
        known = self.pairs.get(old)
        if known is not None:
            return known == new
        if new in self.taken:
            return False
        self.pairs[old] = new
        self.taken.add(new)
        return True


def covered(old: Checkpoint, new: State, needs: list[Needs], slot: int) -> bool:
    """Whether whatever was found safe from ``old`` is safe from ``new`` too."""
    a = old.state
    if not _same_shape(a, new):
        return False
    ids = _Ids()
    shared = _shared_ids(a)
    last = len(a.frames) - 1
    for depth, (fold, fnew) in enumerate(zip(a.frames, new.frames, strict=True)):
        if depth == last:
            need = needs[slot]
            live, exact, saved = need.live, need.exact, need.slots
        else:
            back = a.frames[depth + 1].back
            need = needs[back + 1]
            # r0 to r5 do not outlive the call; the callee may use any stack slot it was given.
            live, exact, saved = need.live & ~0b111111, need.exact & ~0b111111, ALL_SLOTS
        for number in range(10):
            bit = 1 << number
            if live & bit and not _safe(fold.regs[number], fnew.regs[number], ids, shared, exact & bit):
                return False
        reads = old.reads[depth] if old.complete else ALL_SLOTS
        if not _stack_safe(fold, fnew, reads, saved, ids, shared):
            return False
    return _refs_same(a, new, ids)


def identical(old: Checkpoint, new: State) -> bool:
    """Whether nothing at all changed: a loop that makes no progress."""
    a = old.state
    if a.rounds != new.rounds or not _same_shape(a, new):
        return False
    for fold, fnew in zip(a.frames, new.frames, strict=True):
        for x, y in zip(fold.regs, fnew.regs, strict=True):
            if x is not y and x.kind != UNINIT and not x.same(y):
                return False
        for index, (saved, kinds) in fold.stack.items():
            other, others = fnew.slot(index)
            if kinds != others and kinds != INVALID * 8:
                return False
            if saved is not None and saved is not other and (other is None or not saved.same(other)):
                return False
    return True


def widened(old: Checkpoint, new: State, needs: list[Needs], slot: int) -> bool:
    """Whether ``new`` lies within ``old`` in every register and slot: a round seen already."""
    a = old.state
    if not _same_shape(a, new):
        return False
    ids = _Ids()
    shared = _shared_ids(a)
    last = len(a.frames) - 1
    for depth, (fold, fnew) in enumerate(zip(a.frames, new.frames, strict=True)):
        live = needs[slot if depth == last else a.frames[depth + 1].back + 1].live
        if depth != last:
            live &= ~0b111111
        for number in range(10):
            if live >> number & 1 and not _safe(fold.regs[number], fnew.regs[number], ids, shared, 1):
                return False
        if not _stack_safe(fold, fnew, ALL_SLOTS, ALL_SLOTS, ids, shared):
            return False
    return _refs_same(a, new, ids)


def _same_shape(a: State, b: State) -> bool:
    if len(a.frames) != len(b.frames) or len(a.refs) != len(b.refs) or a.lock != b.lock:
        return False
    return all(
        x.back == y.back and x.start == y.start and x.callback == y.callback
        for x, y in zip(a.frames, b.frames, strict=True)
    )


def _refs_same(a: State, b: State, ids: _Ids) -> bool:
    return all(ids.same(x, y) for x, y in zip(a.refs, b.refs, strict=True))


def _shared_ids(state: State) -> set[int]:
    """Identities that more than one register has: a lone one tells nothing."""
    seen: set[int] = set()
    shared: set[int] = set()
    for frame in state.frames:
        for reg in frame.regs:
            if reg.id:
                (shared if reg.id in seen else seen).add(reg.id)
        for saved, _ in frame.stack.values():
            if saved is not None and saved.id:
                (shared if saved.id in seen else seen).add(saved.id)
    return shared


def _safe(old: Reg, new: Reg, ids: _Ids, shared: set[int], exact: int) -> bool:
    kind = old.kind
    if kind == UNINIT:
        return True
    if old is new and not old.id and not old.ref:
        return True
    if kind != new.kind or old.null != new.null:
        return False
    if kind == SCALAR:
        if not exact:
            return True
        if old.id and old.id in shared and (old.off != new.off or not ids.same(old.id, new.id)):
            return False
        return new.within(old)
    if kind in (MAP_VALUE, MAP_KEY, MEM):
        return (
            old.map is new.map
            and old.size == new.size
            and old.off == new.off
            and old.flags == new.flags
            and new.within(old)
            and ids.same(old.id, new.id)
            and ids.same(old.ref, new.ref)
        )
    if kind in (PACKET, PACKET_META):
        if old.off != new.off or (old.size > new.size if old.size >= 0 else old.size != new.size):
            return False
        return (not old.id or ids.same(old.id, new.id)) and new.within(old)
    return old.same(new) and ids.same(old.id, new.id) and ids.same(old.ref, new.ref)


def _stack_safe(old: Frame, new: Frame, reads: int, exact: int, ids: _Ids, shared: set[int]) -> bool:
    for index, (saved, kinds) in old.stack.items():
        bit = 1 << -index - 1
        if not reads & bit:
            continue
        other, others = new.slot(index)
        if saved is not None and SPILL in kinds:
            if kinds == others and other is not None:
                if not _safe(saved, other, ids, shared, exact & bit):
                    return False
                continue
            if saved.kind != SCALAR or exact & bit:
                return False
            kinds = kinds.replace(SPILL, MISC)
        for a, b in zip(kinds, others, strict=True):
            if a in (INVALID, b):
                continue
            if a == MISC and (b == ZERO or (b == SPILL and other is not None and other.kind == SCALAR)):
                continue
            if a == ZERO and b == SPILL and other is not None and other.is_zero:
                continue
            return False
    return True
