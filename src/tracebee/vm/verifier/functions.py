"""Functions of the program: called, called back by helpers, left; and what their frames take together.

Source: the kernel's ``check_func_call``, ``prepare_func_exit`` and ``check_max_stack_depth``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.isa import insn as isa
from tracebee.vm.verifier.prune import Checkpoint
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    BTF,
    MAP_KEY,
    MAP_VALUE,
    NOTHING,
    SCALAR,
    STACK,
    Frame,
    Reg,
    pointer,
    stack_pointer,
    unknown,
)

if TYPE_CHECKING:
    from tracebee.vm.verifier.machine import Verifier
    from tracebee.vm.verifier.paths import Settings

MAX_FRAMES = 8


def enter(v: Verifier, target: int) -> bool:
    """Call a function of the program."""
    state = v.state
    v.calls_of.setdefault(state.frame.start, set()).add(target)
    if state.lock is not None and v.flow.subprograms[target].is_global:
        raise RefusalError("global function calls are not allowed while holding a lock")
    if v.flow.subprograms[target].is_global and _numbers_only(v, target):
        # Looked at once, for any numbers.
        v.globals.add(target)
        for number in range(1, 6):
            state.regs[number] = NOTHING
        state.regs[0] = unknown()
        v.slot += 1
        return True
    _push(v, target, v.slot, "")
    caller = state.frames[-2]
    for number in range(1, 6):
        state.regs[number] = caller.regs[number]
        caller.regs[number] = NOTHING
    caller.regs[0] = NOTHING
    v.slot = target
    return True


def _numbers_only(v: Verifier, target: int) -> bool:
    """Whether all that a function reads of its arguments is numbers; pointers have it walked anew."""
    needed = v.liveness.needs[target].live
    arguments = [v.read(number) for number in range(1, 6) if needed >> number & 1]
    return all(reg.kind == SCALAR for reg in arguments)


def _push(v: Verifier, target: int, back: int, callback: str) -> Frame:
    state = v.state
    if len(state.frames) >= MAX_FRAMES:
        raise RefusalError(f"the call stack of {len(state.frames)} frames is too deep")
    frame = Frame(target, back, callback)
    frame.regs[10] = stack_pointer(len(state.frames))
    state.frames.append(frame)
    state.written.append(0)
    return frame


def call_back(v: Verifier, name: str, target: int, arguments: list[Reg]) -> None:
    """Also look at what happens when the helper calls the function back."""
    resume = v.state
    v.calls_of.setdefault(resume.frame.start, set()).add(target)
    v.state = resume.copy()
    v.state.rounds += 1
    # The call is made again after each round: the caller's arguments must still be there.
    v.state.frame.regs[1:6] = arguments[1:6]
    frame = _push(v, target, v.slot, name)
    frame.regs[1:6] = _callback_arguments(v, name, arguments)
    if isinstance(v.state.parent, Checkpoint):
        v.state.parent.branches += 1
    v.pending.append((v.state, target, v.path[:]))
    v.state = resume


def leave(v: Verifier) -> bool:
    """Return from a function, or end the program; False when the path ends.

    :raises RefusalError: what is returned, or still held, must not be.
    """
    state = v.state
    result = v.read(0)
    if len(state.frames) == 1:
        return _end(v, result)
    frame = state.frames.pop()
    state.written.pop()
    if result.kind == STACK and result.frame >= len(state.frames):
        raise RefusalError("cannot return stack pointer to the caller", register=0)
    if frame.callback:
        if result.kind != SCALAR or result.smin < 0 or result.smax > 1:
            raise RefusalError(
                "At callback return the register R0 should have been in [0, 1]",
                hint="return 0 to go on, 1 to stop",
                register=0,
            )
        v.slot = frame.back
        return True
    state.regs[0] = result
    v.slot = frame.back + 1
    return True


def _end(v: Verifier, result: Reg) -> bool:
    state = v.state
    if state.lock is not None:
        raise RefusalError("BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region")
    if state.refs:
        ref, where = next(iter(state.refs.items()))
        raise RefusalError(
            f"Unreleased reference id={ref} alloc_insn={where}",
            hint="every path must submit or discard (release) what it reserved",
        )
    if result.is_pointer and not v.privileged:
        raise RefusalError("R0 leaks addr as return value", register=0)
    low, high = result_range(v.settings)
    if low is not None and state.frame.start == 0:
        if result.kind != SCALAR:
            raise RefusalError("At program exit the register R0 is not a known value", register=0)
        if result.smin < low or result.smax > high:
            raise RefusalError(
                f"At program exit the register R0 has {result.describe()} "
                f"should have been in [{low}, {high}]",
                register=0,
            )
    return False


def check_stack_depth(v: Verifier) -> None:
    """The frames of every chain of calls together must fit."""

    def deepest(start: int, above: int, chain: tuple[int, ...]) -> None:
        size = -(-max(v.depths.get(start, 0), 1) // 32) * 32
        if above + size > isa.MAX_STACK:
            raise RefusalError(
                f"combined stack size of {len(chain) + 1} calls is {above + size}. Too large",
                hint=f"all frames of a chain of calls share {isa.MAX_STACK} bytes",
            )
        if len(chain) >= MAX_FRAMES:
            raise RefusalError(f"the call stack of {len(chain) + 1} frames is too deep")
        for callee in v.calls_of.get(start, ()):
            if callee in (*chain, start):
                raise RefusalError("recursive call")
            deepest(callee, above + size, (*chain, start))

    deepest(0, 0, ())
    for start, sub in v.flow.subprograms.items():
        if sub.is_global and start:
            deepest(start, 0, ())


def result_range(settings: Settings) -> tuple[int | None, int]:
    """The values a program of a type may return: (low, high), low None for any."""
    if settings.program_type == uapi.BPF_PROG_TYPE_TRACING:
        if settings.attach_type in (uapi.BPF_TRACE_FENTRY, uapi.BPF_TRACE_FEXIT):
            return 0, 0
        if settings.attach_type == uapi.BPF_TRACE_ITER:
            return 0, 1
    if settings.program_type == uapi.BPF_PROG_TYPE_CGROUP_SKB:
        return 0, 3 if settings.attach_type == uapi.BPF_CGROUP_INET_EGRESS else 1
    return None, 0


def _callback_arguments(v: Verifier, name: str, arguments: list[Reg]) -> list[Reg]:
    """r1 to r5 of a function that a helper calls back."""
    if name == "loop":
        return [unknown(), arguments[3], NOTHING, NOTHING, NOTHING]
    if name == "for_each_map_elem":
        key, value = pointer(MAP_KEY), pointer(MAP_VALUE)
        key.map = value.map = arguments[1].map
        return [arguments[1], key, value, arguments[3], NOTHING]
    if name == "find_vma":
        vma = pointer(BTF)
        vma.btf = v.kernel_types.named("vm_area_struct")
        vma.flags = frozenset(("trusted",))
        return [arguments[1], vma, arguments[4], NOTHING, NOTHING]
    raise RefusalError(f"callbacks of {name} are not supported")
