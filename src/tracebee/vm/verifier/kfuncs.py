"""Calls of kernel functions that tracebee's own programs make.

Source: the kernel's ``check_kfunc_call``; iterators as in ``process_iter_next_call``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    ANYTHING,
    MEM,
    NOTHING,
    NULL,
    SCALAR,
    STACK,
    Frame,
    Reg,
    State,
    pointer,
)

if TYPE_CHECKING:
    from tracebee.vm.verifier.machine import Verifier

_ITERATOR = "iterator"
_BYTES = "T" * 8


def call(v: Verifier, name: str) -> None:
    """Check a call and leave its result in r0.

    :raises RefusalError: the function is not known, or its arguments do not suit.
    """
    function = _FUNCTIONS.get(name)
    if function is None:
        raise RefusalError(f"calling kernel function {name or '?'} is not supported")
    function(v)


def _slot(v: Verifier) -> tuple[Frame, int, int]:
    reg = v.read(1)
    if (
        reg.kind != STACK
        or not reg.is_const
        or (reg.off + reg.smin) % 8
        or not -512 <= reg.off + reg.smin < 0
    ):
        raise RefusalError("arg#0 expected pointer to an iterator on stack", register=1)
    low = reg.off + reg.smin
    v.grow_stack(reg.frame, -low)
    return v.state.frames[reg.frame], reg.frame, low // 8


def _scratch(v: Verifier, result: Reg) -> None:
    regs = v.state.regs
    for number in range(1, 6):
        regs[number] = NOTHING
    regs[0] = result


def _num_new(v: Verifier) -> None:
    frame, depth, index = _slot(v)
    for number in (2, 3):
        if v.read(number).kind != SCALAR:
            raise RefusalError(f"R{number} is not a scalar", register=number)
    if frame.slot(index)[1] == _BYTES:
        raise RefusalError("expected uninitialized iter_num as arg #0", register=1)
    iterator = pointer(_ITERATOR)
    iterator.ref = v.acquire()
    iterator.flags = frozenset(("active",))
    frame.stack[index] = (iterator, _BYTES)
    v.mark_written(depth, 1 << -index - 1)
    _scratch(v, ANYTHING)


def _found(v: Verifier) -> tuple[Frame, int, Reg]:
    frame, depth, index = _slot(v)
    iterator, kinds = frame.slot(index)
    if kinds != _BYTES or iterator is None:
        raise RefusalError("expected an initialized iter_num as arg #0", register=1)
    v.mark_read(depth, 1 << -index - 1)
    return frame, index, iterator


def _num_next(v: Verifier) -> None:
    frame, index, iterator = _found(v)
    if "active" not in iterator.flags:
        _scratch(v, NULL)
        return
    # Another round: look at it later, from behind this call.
    depth = v.state.frames.index(frame)
    more: State = v.state.copy()
    item = pointer(MEM)
    item.size = 4
    item.flags = frozenset(("rdonly",))
    more.frame.regs[1:6] = [NOTHING] * 5
    more.frame.regs[0] = item
    v.fork(more, v.slot + 1)
    drained = iterator.copy()
    drained.flags = frozenset()
    v.state.frames[depth].stack[index] = (drained, _BYTES)
    _scratch(v, NULL)


def _num_destroy(v: Verifier) -> None:
    frame, index, iterator = _found(v)
    v.state.refs.pop(iterator.ref, None)
    frame.stack[index] = (None, "I" * 8)
    _scratch(v, NOTHING)


_FUNCTIONS = {
    "bpf_iter_num_new": _num_new,
    "bpf_iter_num_next": _num_next,
    "bpf_iter_num_destroy": _num_destroy,
}
