"""Lowering: a typed program to IR. ``Gen`` writes the program of one probe group.

An expression whose type is a number becomes a 64-bit value (``value``), extended as its type says.
Anything larger is written straight to where it is wanted (``into``: a map key, an event record, a
variable), or found where it already lies (``place``). The rules are in the ``lower_*`` modules, by
class of node, and in the tables of builtins and functions.
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.ir import CTX, I64, KERNEL, Builder, Function
from tracebee.lang import ast
from tracebee.lang.script import EVENTS, RODATA
from tracebee.lang.types import Type, alignment
from tracebee.lang.unify import COUNTABLE, is_scalar
from tracebee.obj.model import CoreReloc
from tracebee.source import NOWHERE
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import ClassVar

    from tracebee.ir import Block, Local, Value
    from tracebee.lang.analyse import Analyser, MapState, VariableState
    from tracebee.lang.probe_api import ProbeGroup
    from tracebee.lang.unit import Unit
    from tracebee.source import Span

BPF_CORE_FIELD_BYTE_OFFSET = 0
# Longer runs of zeros are written by a helper, which does it with the processor's block store.
_LONG_ZEROS = 256


# What ``lower_access`` has the rules for.
_REACHING = (ast.Field, ast.Index, ast.Cast, ast.Typeinfo)


class Place(NamedTuple):
    """Memory: ``offset`` bytes after ``ptr``.

    ``space`` is empty where the program itself may read, else ``kernel`` or ``user``. ``core``
    is the root type and path of a kernel record's member whose offset the loader adds.
    """

    ptr: Value
    offset: int = 0
    space: str = ""
    core: tuple[str, str] | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is memory that helpers take as the program's own: the stack, a map, a record."""
        return not self.space and self.core is None and self.ptr.type not in (CTX, KERNEL)


class Gen:
    """Writes one function. ``frame`` is the memory that a program shares with its callbacks."""

    def __init__(
        self, unit: Unit, analyser: Analyser, group: ProbeGroup, function: Function, parent: Gen | None = None
    ) -> None:
        self.unit = unit
        self.analyser = analyser
        self.group = group
        self.function = function
        self.b = self._builder(function)
        self.parent = parent
        self.ctx: Value = self.b.param(0)
        self.frame: Value | None = None
        self.frame_slots: dict[int, int] = {} if parent is None else parent.frame_slots
        self.locals: dict[int, Local] = {}
        # Entries of maps that the predicate found, by map and key's text, until the map is written.
        self.known: dict[tuple[str, str], Value] = {}
        self.memory: dict[int, Value] = {}
        # Loop variables over maps: key, value, and the value as a number when it is an aggregation's.
        self.pairs: dict[int, tuple[Place, Place, Value | None]] = {}
        self.loops: list[tuple[Block, Block]] = []  # where continue and break go
        self.iterators: list[Value] = []  # open number iterators, to be closed before leaving

    def _builder(self, function: Function) -> Builder:
        level = self.analyser.options.runtime_checks
        if not level:
            return Builder(function)
        from tracebee.lang.runtime_checks import CheckedBuilder

        return CheckedBuilder(function, self, level)

    # The three ways to get at an expression.

    def value(self, node: ast.Node) -> Value:
        """A number's value, extended to 64 bits; what is not a number has no value (0)."""
        t = type_of(node)
        if isinstance(node, _REACHING) and type(node) not in self.INTO and type(node) not in self.VALUES:
            from tracebee.lang import lower_access  # noqa: F401 - scripts that reach into no memory spare it
        if t.kind in COUNTABLE and isinstance(node, (ast.Map, ast.MapAccess)):
            from tracebee.lang.aggregations import reduce_node

            return reduce_node(self, node)
        rule = self.VALUES.get(type(node))
        if rule is None or (t.kind != "none" and not is_scalar(t) and t.kind not in COUNTABLE):
            if is_scalar(t):
                return self.load(self.place(node), t)
            self.place(node)
            return self.b.const(0)
        try:
            with self.b.span(node.span):
                return rule(self, node)
        except Diagnostic as wrong:
            if wrong.span == NOWHERE:  # a probe's own finding knows no place
                wrong.span = node.span
            raise

    def place(self, node: ast.Node) -> Place:
        """Where an expression's value lies; written to a local object when it lies nowhere yet."""
        if isinstance(node, _REACHING) and type(node) not in self.INTO and type(node) not in self.VALUES:
            from tracebee.lang import lower_access  # noqa: F401 - as above
        rule = self.PLACES.get(type(node))
        if rule is not None:
            with self.b.span(node.span):
                found = rule(self, node)
            if found is not None:
                return found
        t = type_of(node)
        ptr = self.b.alloca(max(1, t.size), max(8, alignment(t)))
        self.into(node, ptr, 0, t)
        return Place(ptr)

    def into(self, node: ast.Node, ptr: Value, offset: int, t: Type, *, pad: bool = True) -> None:
        """Write an expression's value as type ``t`` to memory of the program's.

        :param pad: whether the bytes after a string's end must be zero.
        """
        if is_scalar(t):
            self.b.store(ptr, offset, t.size, self.value(node))
            return
        if isinstance(node, _REACHING) and type(node) not in self.INTO and type(node) not in self.VALUES:
            from tracebee.lang import lower_access  # noqa: F401 - as above
        rule = self.INTO.get(type(node))
        if rule is not None:
            with self.b.span(node.span):
                if rule(self, node, ptr, offset, t, pad):
                    return
        with self.b.span(node.span):
            self.copy(self.place(node), type_of(node), ptr, offset, t, pad=pad)

    # Filled by the lower_* modules; each rule takes the class of node it stands for.
    VALUES: ClassVar[dict[type, Callable[..., Value]]] = {}
    PLACES: ClassVar[dict[type, Callable[..., Place | None]]] = {}
    INTO: ClassVar[dict[type, Callable[..., bool]]] = {}
    STATEMENTS: ClassVar[dict[type, Callable[..., None]]] = {}

    # Memory.

    def address(self, place: Place) -> Value:
        """A place's address as one value."""
        address = place.ptr
        if place.core is not None:
            offset = self.b.core(CoreReloc(BPF_CORE_FIELD_BYTE_OFFSET, *place.core))
            address = self.b.binary("add", address, offset)
        return self.b.binary("add", address, place.offset) if place.offset else address

    def load(self, place: Place, t: Type, as_type: str = I64) -> Value:
        """Read a number from a place; ``as_type`` KERNEL when it is a pointer that the verifier knows."""
        b = self.b
        size = t.size or 8
        signed = t.signed and size < 8
        if not place.space:
            if place.core is None:
                return b.load(place.ptr, place.offset, size, signed, type=as_type)
            reloc = CoreReloc(BPF_CORE_FIELD_BYTE_OFFSET, *place.core)
            if not place.offset:
                return b.load(place.ptr, 0, size, signed, reloc, type=as_type)
            member = b.binary("add", place.ptr, b.core(reloc))
            return b.load(member, place.offset, size, signed, type=as_type)
        if self.analyser.options.portable and place.core is not None and t.kind in ("int", "enum", "bool"):
            from tracebee.lang.lower_portable import number

            found = number(self, place, t)
            if found is not None:
                return found
        slot = b.alloca(8)
        b.helper(f"probe_read_{place.space}", slot, size, self.address(place))
        return b.load(slot, 0, size, signed)

    def read(self, place: Place, ptr: Value, offset: int, size: int) -> None:
        """Copy bytes from a place to the program's memory."""
        if not place.is_own:
            target = self.b.binary("add", ptr, offset) if offset else ptr
            self.b.helper(f"probe_read_{place.space or 'kernel'}", target, size, self.address(place))
        else:
            self.b.memcpy(ptr, offset, place.ptr, place.offset, size)

    def zero(self, ptr: Value, offset: int, size: int) -> None:
        """Zero bytes of the program's memory."""
        if size <= _LONG_ZEROS:
            self.b.memset(ptr, offset, 0, size)
            return
        # A read that fails zeroes its destination, and address 0 fails at once.
        target = self.b.binary("add", ptr, offset) if offset else ptr
        self.b.helper("probe_read_kernel", target, size, 0)

    def copy(self, place: Place, source: Type, ptr: Value, offset: int, t: Type, *, pad: bool = True) -> None:
        """Copy a value of type ``source`` to memory of type ``t`` (as ``unify.join`` made it)."""
        if self._moves(place, source):
            from tracebee.lang.lower_portable import copy_whole

            copy_whole(self, place, source, ptr, offset)
        elif source.kind == "string" and t.kind == "string":
            self._copy_string(place, source.size, ptr, offset, t.size, pad=pad)
        elif source.kind == "tuple" and t.kind == "tuple" and source.fields != t.fields:
            self.gaps(ptr, offset, t)
            for have, want in zip(source.fields, t.fields, strict=True):
                inner = place._replace(offset=place.offset + have.offset)
                if is_scalar(want.type):
                    self.b.store(ptr, offset + want.offset, want.type.size, self.load(inner, have.type))
                else:
                    self.copy(inner, have.type, ptr, offset + want.offset, want.type, pad=pad)
        else:
            size = min(source.size, t.size)
            self.read(place, ptr, offset, size)
            if t.size > size:
                self.zero(ptr, offset + size, t.size - size)

    def _moves(self, place: Place, source: Type) -> bool:
        """Whether a value has members that lie elsewhere on another kernel, and that matters."""
        if not self.analyser.options.portable or place.is_own:
            return False
        t = source.element if source.kind == "array" else source
        return t is not None and self.analyser.records.is_kernel(self.analyser.records.resolve(t))

    def _copy_string(self, place: Place, have: int, ptr: Value, offset: int, size: int, *, pad: bool) -> None:
        count = min(have, size)
        if pad and place.space:
            # Memory of others may hold anything behind the NUL.
            self.zero(ptr, offset, size)
            target = self.b.binary("add", ptr, offset) if offset else ptr
            self.b.helper(f"probe_read_{place.space}_str", target, count, self.address(place))
            return
        self.read(place, ptr, offset, count)
        if have > size:
            self.b.store(ptr, offset + size - 1, 1, 0)
        elif pad and size > have:
            self.zero(ptr, offset + have, size - have)

    def gaps(self, ptr: Value, offset: int, t: Type) -> None:
        """Zero the padding between a tuple's members."""
        at = 0
        for f in t.fields:
            if f.offset > at:
                self.b.memset(ptr, offset + at, 0, f.offset - at)
            at = f.offset + f.type.size
        if t.size > at:
            self.b.memset(ptr, offset + at, 0, t.size - at)

    def bytes_into(self, data: bytes, ptr: Value, offset: int) -> None:
        """Write constant bytes."""
        if len(data) > 64:
            at = self.unit.constant(data)
            self.b.memcpy(ptr, offset, self.b.data_ref(RODATA, at), 0, len(data))
            return
        for at, size in chunks(len(data), offset):
            self.b.store(ptr, offset + at, size, int.from_bytes(data[at : at + size], "little"))

    # Variables.

    def variable(self, node: ast.Variable) -> VariableState:
        """The variable that a node names."""
        return self.analyser.bindings[id(node)]

    def local(self, state: VariableState) -> Local:
        """The IR variable of a scratch variable that is a number."""
        found = self.locals.get(id(state))
        if found is None:
            found = self.locals[id(state)] = self.b.local(state.name, "i64")
        return found

    def variable_place(self, state: VariableState) -> Place:
        """Where a scratch variable lies that is no number, or that callbacks share."""
        slot = self.frame_slots.get(id(state))
        if slot is not None:
            assert self.frame is not None
            return Place(self.frame, slot)
        found = self.memory.get(id(state))
        if found is None:
            found = self.memory[id(state)] = self.at_entry(state)
            pair = self.pairs.get(id(state))
            if pair is not None:
                from tracebee.lang.lower_for_map import write_pair

                write_pair(self, state, pair, Place(found))
        return Place(found)

    def at_entry(self, state: VariableState) -> Value:
        """Memory for a variable, for as long as the function runs."""
        b = self.b
        here = b.current
        entry = self.function.blocks[0]
        kept = entry.insns
        entry.insns = []
        b.at(entry)
        size = max(8, state.type.size)
        found = b.alloca(size, 8, state.name)
        if state.early:
            self.zero(found, 0, size)
        entry.insns = entry.insns + kept
        b.at(here)
        return found

    # Events and control.

    def event(self, action: int, size: int, fill: Callable[[Value], None]) -> None:
        """Send a record: ``fill`` writes its payload, which starts 8 bytes after the pointer it gets."""
        b = self.b
        record = b.helper("ringbuf_reserve", b.map_ref(EVENTS), 8 + -(-size // 8) * 8, 0)
        have, full, done = b.block("reserved"), b.block("full"), b.block("sent")
        b.branch(record, have, full)
        b.at(full)
        self.lost("events")
        b.jump(done)
        b.at(have)
        # u32 action, u32 0: one store, as every machine that this runs on is little-endian.
        b.store(record, 0, 8, action)
        fill(record)
        b.helper("ringbuf_submit", record, 0)
        b.jump(done)
        b.at(done)

    def send(self, kind: str, nodes: Sequence[ast.Node], text: str = "", span: Span | None = None) -> None:
        """Send the values of expressions as the payload of a new action."""
        types = [self.sent(type_of(n)) for n in nodes]
        number, layout = self.unit.action(kind, types, text, span)

        def fill(record: Value) -> None:
            for node, f in zip(nodes, layout.fields, strict=True):
                self.into(node, record, 8 + f.offset, f.type, pad=False)

        self.event(number, layout.size, fill)

    def sent(self, t: Type) -> Type:
        """The type a value has in an event record."""
        from tracebee.lang.events import sent

        return sent(self, t)

    def lost(self, cause: str) -> None:
        """Count a loss."""
        self.unit.count_loss(self.b, cause)

    def leave(self) -> None:
        """End the probe: from a callback, tell the program that called it."""
        for iterator in reversed(self.iterators):
            self.b.kfunc("bpf_iter_num_destroy", iterator)
        if self.parent is not None:
            assert self.frame is not None
            self.b.store(self.frame, 8, 8, 1)
            self.b.ret(1)
        else:
            self.b.ret(0)

    def map_state(self, node: ast.Map | ast.MapAccess) -> MapState:
        """The map that an access names."""
        name = node.name if isinstance(node, ast.Map) else node.map.name
        return self.analyser.maps[name]

    def statements(self, nodes: Sequence[ast.Node]) -> None:
        """Write statements in order."""
        for node in nodes:
            with self.b.span(node.span):
                self.STATEMENTS[type(node)](self, node)


def chunks(size: int, *offsets: int) -> Iterator[tuple[int, int]]:
    """Steps and widths that cover so many bytes, aligned (the stack insists) at each of the offsets."""
    at = 0
    while at < size:
        width = next(w for w in (8, 4, 2, 1) if size - at >= w and not any((o + at) % w for o in offsets))
        yield at, width
        at += width


def type_of(node: ast.Node) -> Type:
    """The type that the analyser gave an expression."""
    t = getattr(node, "type", None)
    assert t is not None, node
    return t  # type: ignore[no-any-return]
