"""Calls of kernel functions that tracebee's own programs make.

Source: the kernel's ``check_kfunc_call``; iterators as in ``process_iter_next_call``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    ANYTHING,
    BTF,
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
    from collections.abc import Callable

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
    more.rounds += 1
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


def _acquired(v: Verifier, struct: str) -> Reg:
    """A kernel pointer that must be released, or NULL."""
    found = pointer(BTF)
    found.btf = v.kernel_types.named(struct)
    found.flags = frozenset(("trusted",))
    found.null = True
    found.ref = found.id = v.acquire()
    return found


def _trusted(v: Verifier, struct: str) -> Reg:
    """r1, which must be a pointer to a kernel struct that is known to live."""
    reg = v.read(1)
    if reg.kind != BTF or reg.null or v.kernel_types.name(reg.btf) != struct or reg.off:
        raise RefusalError(f"arg#0 expected pointer to struct {struct}", register=1)
    if "untrusted" in reg.flags:
        raise RefusalError(
            "R1 must be referenced or trusted", hint="it was read through another pointer", register=1
        )
    return reg


def _acquire(struct: str) -> Callable[[Verifier], None]:
    def check(v: Verifier) -> None:
        _trusted(v, struct)
        _scratch(v, _acquired(v, struct))

    return check


def _release(struct: str) -> Callable[[Verifier], None]:
    def check(v: Verifier) -> None:
        reg = _trusted(v, struct)
        if not reg.ref:
            raise RefusalError("release kernel function expects refcounted PTR_TO_BTF_ID", register=1)
        v.release(reg.ref)
        _scratch(v, NOTHING)

    return check


def _by_number(struct: str) -> Callable[[Verifier], None]:
    def check(v: Verifier) -> None:
        if v.read(1).kind != SCALAR:
            raise RefusalError("R1 is not a scalar", register=1)
        _scratch(v, _acquired(v, struct))

    return check


_FUNCTIONS: dict[str, Callable[[Verifier], None]] = {
    "bpf_task_acquire": _acquire("task_struct"),
    "bpf_task_release": _release("task_struct"),
    "bpf_task_from_pid": _by_number("task_struct"),
    "bpf_task_from_vpid": _by_number("task_struct"),
    "bpf_cgroup_acquire": _acquire("cgroup"),
    "bpf_cgroup_release": _release("cgroup"),
    "bpf_cgroup_from_id": _by_number("cgroup"),
    "bpf_iter_num_new": _num_new,
    "bpf_iter_num_next": _num_next,
    "bpf_iter_num_destroy": _num_destroy,
}
