r"""The interpreter: runs a program one instruction at a time, and catches what a verifier should have.

In checked mode, the default, reading a register or a byte of the stack that nobody wrote is a fault, every
frame has its own 512 bytes, and calls leave r1 to r5 unreadable, as the verifier has it. Unchecked mode is
for code that no verifier saw: registers start as zero and the frames are one piece of memory; accesses are
still confined to the program's regions.

::

    machine = Machine(Program(assemble("r0 = 6\n r0 *= 7\n exit")))
    machine.start()
    machine.run()       # 42
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tracebee.errors import ProgramFaultError
from tracebee.isa import insn as isa
from tracebee.isa.dataflow import reads
from tracebee.isa.disasm import format_insn
from tracebee.isa.helpers import BY_NUMBER
from tracebee.isa.insn import Insn
from tracebee.vm.execute import Operation, compile_slot
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program
from tracebee.vm.semantics import MASK64

MAX_FRAMES = 8  # MAX_CALL_FRAMES
MAX_TAIL_CALLS = 33  # MAX_TAIL_CALL_CNT
MAX_MAY_GOTO = 8 << 20  # BPF_MAX_LOOPS
DEFAULT_LIMIT = 1_000_000

# Function pointers lie where no process has memory. They count up from here by slot.
_FUNCTIONS = 0xFFFF_C000_0000_0000


class Callback(NamedTuple):
    """What a helper returns to have a BPF function run: ``resume`` is called with the function's r0.

    ``resume`` returns the helper's result, or another Callback.
    """

    function: int  # a function pointer of the program's
    arguments: tuple[int, ...]
    resume: Callable[[int], Outcome]


class TailCall(NamedTuple):
    """What a helper returns to replace the running program by another."""

    program: Program


Outcome = int | Callback | TailCall | None
Helper = Callable[..., Outcome]


class Frame(NamedTuple):
    """A suspended caller: where it goes on and what the callee must restore."""

    slot: int
    saved: tuple[int, int, int, int, int]  # r6 to r10
    resume: Callable[[int], Outcome] | None
    program: Program  # another than the callee's, after a tail call


class Step(NamedTuple):
    """One executed instruction: where, what, and the registers it changed."""

    slot: int
    insn: Insn
    changed: dict[int, int | None]
    depth: int

    def __str__(self) -> str:
        text = f"{'  ' * self.depth}{self.slot:4}: ({self.insn.opcode:02x}) {format_insn(self.insn)}"
        after = " ".join(f"r{n}={'?' if v is None else hex(v)}" for n, v in self.changed.items())
        return f"{text:<60} ; {after}" if after else text


class Machine:
    """Registers, frames and memory of one running program.

    :param helpers: the callables behind helper numbers. One takes the machine and r1 to r5 and
        returns r0, None for no result, or a Callback or TailCall.
    :param kfuncs: the same by the number in a kernel function call's immediate.
    :param memory: regions the program may access besides its stack; a new empty one by default.
    :param limit: instructions to run before giving up.
    """

    def __init__(
        self,
        program: Program,
        *,
        helpers: Mapping[int, Helper] | None = None,
        kfuncs: Mapping[int, Helper] | None = None,
        memory: Memory | None = None,
        checked: bool = True,
        limit: int = DEFAULT_LIMIT,
        slack: int = 0,
    ) -> None:
        """See the class.

        :param slack: bytes beyond the first frame that an unchecked program may use as well.
        """
        self.helpers = helpers or {}
        self.kfuncs = kfuncs or {}
        self.memory = memory if memory is not None else Memory()
        self.checked = checked
        self.limit = limit
        self.regs: list[int] = [0] * 11
        self.slot = 0
        self.count = 0
        self.context = 0
        self.packet: bytes | memoryview = b""
        self.frames: list[Frame] = []
        self.tail_calls = 0
        self.finished = True
        self._gotos = MAX_MAY_GOTO
        self._compiled: dict[Program, list[Operation | None]] = {}
        self._entry = program
        self._load(program)
        self._stacks: list[Region] = []
        self._make_stacks(slack)

    def _load(self, program: Program) -> None:
        self.program = program
        self._operations = self._compiled.get(program) or self._compile(program)

    def _compile(self, program: Program) -> list[Operation | None]:
        operations = [
            None if insn is None else compile_slot(insn, slot) for slot, insn in enumerate(program.slots)
        ]
        self._compiled[program] = operations
        return operations

    def _make_stacks(self, slack: int) -> None:
        size = isa.MAX_STACK
        if self.checked:
            for depth in range(MAX_FRAMES):
                region = Region(f"stack frame {depth}", bytearray(size), track=True)
                self._stacks.append(self.memory.add(region))
        else:
            self._stacks.append(self.memory.add(Region("stack", bytearray(MAX_FRAMES * size + slack))))
        self._slack = slack

    def _frame_top(self, depth: int) -> int:
        if self.checked:
            return self._stacks[depth].end
        return self._stacks[0].end - self._slack - depth * isa.MAX_STACK

    def start(self, *arguments: int, packet: bytes | memoryview = b"") -> None:
        """Set up registers for a run from the first instruction: arguments go to r1 and on.

        :param packet: what legacy packet loads read; a view shows what the program has changed.
        """
        self._load(self._entry)
        nothing = None if self.checked else 0
        self.regs[:] = [nothing] * 11  # type: ignore[list-item]
        for register, value in enumerate(arguments, 1):
            self.regs[register] = value & MASK64
        self.context = arguments[0] & MASK64 if arguments else 0
        self.packet = packet
        self.frames.clear()
        self.slot = self.count = self.tail_calls = 0
        self._gotos = MAX_MAY_GOTO
        self.finished = False
        self.regs[isa.R10] = self._frame_top(0)
        if self.checked:
            self._stacks[0].forget()

    # Running

    def run(self) -> int:
        """Run to the end.

        :returns: r0, unsigned 64 bits.
        :raises ProgramFaultError: the program did something wrong, or ran into the limit.
        """
        while not self.finished:
            self.advance()
        return self.regs[0]

    def advance(self) -> None:
        """Run one instruction.

        :raises ProgramFaultError: see ``run``.
        """
        slot = self.slot
        if self.count >= self.limit:
            raise ProgramFaultError(f"the program ran {self.limit} instructions without ending", slot=slot)
        operation = self._operations[slot] if slot < len(self._operations) else None
        if operation is None:
            raise ProgramFaultError("the program ran past its last instruction", slot=slot)
        self.count += 1
        try:
            self.slot = operation(self)
        except TypeError as error:
            # An uninitialised register is None, with which no operation works.
            unread = self._unreadable(slot)
            if unread is None:
                raise
            raise ProgramFaultError(f"r{unread} is read, but nothing was written to it", slot=slot) from error
        except ProgramFaultError as fault:
            if fault.slot is None:
                fault.slot = slot
            raise

    def _unreadable(self, slot: int) -> int | None:
        insn = self.program.slots[slot]
        registers = reads(insn) if insn is not None else ()
        return next((register for register in registers if self.regs[register] is None), None)

    def step(self) -> Step:
        """Run one instruction and tell what changed. ``finished`` says when there is no further one.

        :raises ProgramFaultError: see ``run``.
        """
        slot, depth, before = self.slot, len(self.frames), list(self.regs)
        insn = self.program.slots[slot] if slot < len(self.program.slots) else None
        self.advance()
        changed: dict[int, int | None] = {
            n: now for n, (was, now) in enumerate(zip(before, self.regs, strict=True)) if was != now
        }
        return Step(slot, insn or Insn(0), changed, depth)

    def trace(self) -> Iterator[Step]:
        """Steps to the end; a fault comes after the steps before it."""
        while not self.finished:
            yield self.step()

    # What instructions ask of the machine

    def clobber(self) -> None:
        """Make r1 to r5 unreadable, as after a call."""
        if self.checked:
            self.regs[1:6] = [None] * 5  # type: ignore[list-item]

    def enter(self, target: int, after: int, resume: Callable[[int], Outcome] | None = None) -> int:
        """Call the function at a slot, coming back to the slot ``after``."""
        depth = len(self.frames) + 1
        if depth >= MAX_FRAMES:
            raise ProgramFaultError(f"calls nest deeper than {MAX_FRAMES} frames")
        regs = self.regs
        self.frames.append(Frame(after, (regs[6], regs[7], regs[8], regs[9], regs[10]), resume, self.program))
        if self.checked:
            regs[6:10] = [None] * 4  # type: ignore[list-item]
            regs[0] = None  # type: ignore[call-overload]
            self._stacks[depth].forget()
        regs[10] = self._frame_top(depth)
        return target

    def leave(self) -> int:
        """Return from the running function, or end the program."""
        regs = self.regs
        if regs[0] is None:
            raise ProgramFaultError("r0 is returned, but nothing was written to it")
        if not self.frames:
            self.finished = True
            return self.slot
        frame = self.frames.pop()
        regs[6:11] = frame.saved
        if frame.program is not self.program:
            self._load(frame.program)
        self.clobber()
        if frame.resume is None:
            return frame.slot
        return self._take(frame.resume(regs[0]), frame.slot)

    def leave_program(self) -> int:
        """End the program from whatever depth, as a packet load beyond the packet does."""
        self.frames.clear()
        self.finished = True
        return self.slot

    def call_helper(self, number: int, after: int) -> int:
        """Call a helper with r1 to r5."""
        helper = self.helpers.get(number)
        known = BY_NUMBER.get(number)
        if helper is None:
            name = f"bpf_{known.name}" if known else f"helper {number}"
            raise ProgramFaultError(f"{name} is not offered here")
        regs = self.regs
        count = known.arg_count if known and self.checked else 5
        if self.checked and known and known.args.endswith("DONTCARE"):
            count = next((n for n in range(count) if regs[n + 1] is None), count)
        arguments = [value + 0 for value in regs[1 : 1 + count]]
        return self._finish_call(helper(self, *arguments, *[0] * (5 - count)), after)

    def call_kfunc(self, number: int, after: int) -> int:
        """Call a kernel function's stand-in with r1 to r5."""
        kfunc = self.kfuncs.get(number)
        if kfunc is None:
            raise ProgramFaultError(f"kernel function {number} is not offered here")
        return self._finish_call(kfunc(self, *[value or 0 for value in self.regs[1:6]]), after)

    def _finish_call(self, outcome: Outcome, after: int) -> int:
        self.clobber()
        return self._take(outcome, after)

    def _take(self, outcome: Outcome, after: int) -> int:
        """Go on after a helper gave its result, or asked for a function to run first."""
        if isinstance(outcome, Callback):
            slot = self.enter(outcome.function - _FUNCTIONS, after, outcome.resume)
            self.clobber()
            for register, value in enumerate(outcome.arguments, 1):
                self.regs[register] = value & MASK64
            return slot
        if isinstance(outcome, TailCall):
            return self._tail_call(outcome.program, after)
        if outcome is not None:
            self.regs[0] = outcome & MASK64
        elif self.checked:
            self.regs[0] = None  # type: ignore[call-overload]
        return after

    def _tail_call(self, program: Program, after: int) -> int:
        if self.tail_calls >= MAX_TAIL_CALLS:
            return self._take(0, after)
        self.tail_calls += 1
        self._load(program)
        nothing = None if self.checked else 0
        depth = len(self.frames)
        self.regs[:] = [nothing, self.context, *[nothing] * 8, self._frame_top(depth)]  # type: ignore[list-item]
        if self.checked:
            self._stacks[depth].forget()
        return 0

    def may_go(self) -> bool:
        """Whether a ``may_goto`` falls through: not when the program's loops have used up their budget."""
        if self._gotos == 0:
            return False
        self._gotos -= 1
        return True

    def function_pointer(self, slot: int) -> int:
        """What a register holds as the address of the function at a slot."""
        return _FUNCTIONS + slot

    def resolve_wide(self, source: int, value: int) -> int:
        """The value of a wide load that still names a map by descriptor or index.

        :raises ProgramFaultError: always: link such programs first.
        """
        raise ProgramFaultError(f"a wide load of kind {source} with {value:#x} is not linked")

    def packet_bytes(self, offset: int, size: int) -> bytes | None:
        """Packet bytes for a legacy load, or None where there are none.

        Offsets from -0x200000 count from the link layer header (``SKF_LL_OFF``), as 0 does here.
        """
        if -0x200000 <= offset < -0x100000:
            offset += 0x200000
        if offset < 0 or offset + size > len(self.packet):
            return None
        return bytes(self.packet[offset : offset + size])
