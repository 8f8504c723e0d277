"""The abstract machine: registers, stack slots, frames, and what is held.

Registers are never changed in place: whoever changes one puts a copy in, so that states share them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.vm.verifier.bounds import Number
from tracebee.vm.verifier.tnum import M64

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.obj.model import MapDef

UNINIT = "uninit"
SCALAR = "scalar"
CTX = "ctx"
STACK = "fp"
MAP_VALUE = "map_value"
MAP_KEY = "map_key"
MAP_PTR = "map_ptr"
PACKET = "pkt"
PACKET_META = "pkt_meta"
PACKET_END = "pkt_end"
MEM = "mem"
BTF = "ptr_"
FUNC = "func"
SOCK = "sock"

# What a packet pointer's ``size`` says when it was compared the other way round.
AT_END, BEYOND_END = -1, -2

Slot = tuple["Reg | None", str]
# Bytes of a stack slot: never written, written, written with zero, part of a saved register.
INVALID, MISC, ZERO, SPILL = "I", "M", "Z", "S"


class Reg(Number):
    """An abstract register. The Number is its value, or the variable part of a pointer's offset.

    :ivar off: fixed part of a pointer's offset; of a number with an ``id``, what it is more than the
        others of that id (all are one number plus their ``off``).
    :ivar id: equal for registers known to hold the same value or to come from one null check or
        packet base; 0 for none.
    :ivar ref: the reference that must be released, or 0.
    :ivar size: bytes behind a MEM pointer; bytes known to be in a PACKET behind its base.
    :ivar null: whether a pointer may be NULL.
    :ivar btf: BTF type id of what a BTF pointer points at; first slot of a FUNC.
    :ivar frame: depth of the frame a STACK pointer points into.
    """

    __slots__ = ("btf", "flags", "frame", "id", "kind", "map", "null", "off", "ref", "size")

    kind: str
    off: int
    id: int
    ref: int
    map: MapDef | None
    size: int
    null: bool
    btf: int
    frame: int
    flags: frozenset[str]

    def copy(self) -> Reg:
        """A register with the same knowledge."""
        new = Reg.__new__(Reg)
        new.copy_number(self)
        new.kind, new.off, new.id, new.ref = self.kind, self.off, self.id, self.ref
        new.map, new.size, new.null = self.map, self.size, self.null
        new.btf, new.frame, new.flags = self.btf, self.frame, self.flags
        return new

    def unlinked(self) -> Reg:
        """A copy of a number that other registers no longer tell about."""
        new = self.copy()
        new.id = new.off = 0
        return new

    @property
    def is_pointer(self) -> bool:
        """Whether it holds an address."""
        return self.kind not in (SCALAR, UNINIT)

    @property
    def is_zero(self) -> bool:
        """Whether it is the number 0."""
        return self.kind == SCALAR and self.bits == (0, 0)

    def same(self, other: Reg) -> bool:
        """Whether everything known is equal."""
        return (
            self.kind == other.kind
            and self.off == other.off
            and self.bits == other.bits
            and self.umin == other.umin
            and self.umax == other.umax
            and self.smin == other.smin
            and self.smax == other.smax
            and self.umin32 == other.umin32
            and self.umax32 == other.umax32
            and self.smin32 == other.smin32
            and self.smax32 == other.smax32
            and self.map is other.map
            and self.size == other.size
            and self.null == other.null
            and self.btf == other.btf
            and self.frame == other.frame
            and self.flags == other.flags
        )

    def describe(self) -> str:
        """For people: what it holds."""
        if self.kind == UNINIT:
            return "nothing"
        if self.kind == SCALAR:
            return self.__class__.__mro__[1].describe(self)  # type: ignore[attr-defined,no-any-return]
        what = _NAMES.get(self.kind, self.kind)
        if self.map is not None:
            what += f" of '{self.map.name}'"
        if self.null:
            what += ", or NULL"
        if self.off or self.bits != (0, 0):
            offset = str(self.off) if self.bits == (0, 0) else f"{self.off} + ({Number.describe(self)})"
            what += f" at offset {offset}"
        return what


_NAMES = {
    CTX: "the context",
    STACK: "a stack address",
    MAP_VALUE: "a value",
    MAP_KEY: "a key",
    MAP_PTR: "a map",
    PACKET: "a packet address",
    PACKET_META: "a packet metadata address",
    PACKET_END: "the packet's end",
    MEM: "a memory address",
    BTF: "a kernel pointer",
    FUNC: "a function",
    SOCK: "a socket",
}


def _blank(kind: str) -> Reg:
    reg = Reg.__new__(Reg)
    reg.kind = kind
    reg.off = reg.id = reg.ref = reg.size = reg.btf = reg.frame = 0
    reg.map = None
    reg.null = False
    reg.flags = frozenset()
    return reg


def unknown() -> Reg:
    """A number of which nothing is known."""
    reg = _blank(SCALAR)
    reg.set_unknown()
    return reg


def known(value: int) -> Reg:
    """The number ``value``."""
    reg = _blank(SCALAR)
    reg.set_known(value & M64)
    return reg


def pointer(kind: str) -> Reg:
    """A pointer of a kind, at offset 0."""
    reg = _blank(kind)
    reg.set_known(0)
    return reg


def stack_pointer(depth: int) -> Reg:
    """r10 of the frame at a depth."""
    reg = pointer(STACK)
    reg.frame = depth
    return reg


def uninitialised() -> Reg:
    """A register nobody wrote."""
    reg = _blank(UNINIT)
    reg.set_unknown()
    return reg


NOTHING = uninitialised()
ANYTHING = unknown()
NULL = known(0)
_EMPTY: Slot = (None, INVALID * 8)


class Frame:
    """A call frame: registers r0 to r10, and the stack by slot (-1 is the one below r10).

    :ivar back: slot of the call that made it, -1 for the program's entry.
    :ivar start: first slot of its function.
    :ivar callback: name of the helper that calls the function back, or "".
    """

    __slots__ = ("back", "callback", "regs", "stack", "start")

    def __init__(self, start: int, back: int, callback: str = "") -> None:
        self.start = start
        self.back = back
        self.callback = callback
        self.regs: list[Reg] = [NOTHING] * 11
        self.stack: dict[int, Slot] = {}

    def copy(self) -> Frame:
        """A frame that shares the registers."""
        new = Frame.__new__(Frame)
        new.start, new.back, new.callback = self.start, self.back, self.callback
        new.regs = self.regs[:]
        new.stack = self.stack.copy()
        return new

    def slot(self, index: int) -> Slot:
        """A stack slot."""
        return self.stack.get(index, _EMPTY)


class State:
    """All frames, and what must be given back before the program ends.

    :ivar refs: open references: id to the slot that acquired it.
    :ivar lock: what a spin lock is held on, (map value id or map), or None.
    :ivar rounds: how many rounds of callbacks and iterators led here.
    :ivar written: per frame, the stack slots written since ``parent`` was taken, as bit masks.
    """

    __slots__ = ("frames", "lock", "parent", "refs", "rounds", "written")

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.refs: dict[int, int] = {}
        self.lock: object = None
        self.parent: object = None
        self.rounds = 0
        self.written: list[int] = []

    @property
    def frame(self) -> Frame:
        """The running frame."""
        return self.frames[-1]

    @property
    def regs(self) -> list[Reg]:
        """The running frame's registers."""
        return self.frames[-1].regs

    def copy(self) -> State:
        """A state that shares the registers."""
        new = State.__new__(State)
        new.frames = [frame.copy() for frame in self.frames]
        new.refs = self.refs.copy()
        new.lock = self.lock
        new.parent = self.parent
        new.rounds = self.rounds
        new.written = self.written[:]
        return new

    def replace_all(self, chosen: Callable[[Reg], bool], change: Callable[[Reg], Reg]) -> None:
        """Put ``change(reg)`` in for every register and saved register that ``chosen`` picks."""
        done: dict[int, Reg] = {}

        def changed(reg: Reg) -> Reg:
            key = id(reg)
            if key not in done:
                done[key] = change(reg)
            return done[key]

        for frame in self.frames:
            regs = frame.regs
            for index, reg in enumerate(regs):
                if chosen(reg):
                    regs[index] = changed(reg)
            for index, (saved, bytes_) in frame.stack.items():
                if saved is not None and chosen(saved):
                    frame.stack[index] = (changed(saved), bytes_)
