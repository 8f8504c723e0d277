"""CO-RE: the values that relocations of compiled code stand for in another kernel's types.

The rules are libbpf's (its ``relo_core.c``): candidates are the target's types of the same kind and name,
flavours (``___x``) aside; the access must be found in a candidate by names and compatible types; and all
candidates that have it must agree on the value. What no candidate has makes an existence check 0 and
any other relocation *poison*: its instruction is replaced by one the verifier refuses, if it can be reached.
"""

from __future__ import annotations

from tracebee.btf import core_kinds as ck
from tracebee.btf import kinds
from tracebee.btf.core_compat import essential_name, kinds_agree
from tracebee.btf.core_spec import Spec, match_enumerator, match_names, match_spec, parse_spec
from tracebee.errors import DecodeError, SymbolError, UnsupportedError
from tracebee.typed import NamedTuple, Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

# A plain name in a script's relocation means one of these.
_PLAIN_KINDS = frozenset(range(1, len(kinds.KINDS))) - {
    kinds.BTF_KIND_FWD,
    kinds.BTF_KIND_FUNC,
    kinds.BTF_KIND_VAR,
    kinds.BTF_KIND_DATASEC,
    kinds.BTF_KIND_DECL_TAG,
    kinds.BTF_KIND_TYPE_TAG,
}


class Relocation(Protocol):
    """What a relocation says (``obj.model.CoreReloc`` is one).

    With a ``type_id``, the root type in the local types, ``spec`` is the access string; without one,
    ``type_name`` and ``access`` name the root type and the member path or enumerator.
    """

    @property
    def kind(self) -> int:
        """A value of ``enum bpf_core_relo_kind``."""

    @property
    def type_name(self) -> str:
        """The root type as C writes it."""

    @property
    def access(self) -> str:
        """A member path or an enumerator."""

    @property
    def type_id(self) -> int:
        """The root type's id in the local types."""

    @property
    def spec(self) -> str:
        """The access string."""


class CoreValue(NamedTuple):
    """What to put into an instruction.

    :param value: the target's value.
    :param original: the local value, which the instruction should hold now; None when it is not known.
    :param poison: no target has it.
    :param size: bytes to load or store at the value, when it is an offset; 0 for what is no offset.
    :param original_size: bytes that the code was compiled to load or store.
    :param resizable: whether code compiled for one size gives the right result with the other.
    :param relative: the offset of a load or store counts from the field: by-name relocations.
    :param target: the access found, for messages; None when there is none.
    """

    value: int
    original: int | None = None
    poison: bool = False
    size: int = 0
    original_size: int = 0
    resizable: bool = True
    relative: bool = False
    target: Spec | None = None


class _Part(NamedTuple):
    """One side's value: ``check`` whether the compiler is sure to have emitted it."""

    value: int
    check: bool = True
    size: int = 0
    type_id: int = 0


class Resolver:
    """Resolves the relocations of one object, or of scripts.

    Candidates that lacked an access an earlier relocation found elsewhere are not considered again for
    that type, as in libbpf.

    :param local: the types the code was compiled with; None when relocations go by names alone.
    :param target: the kernel's types.
    :param modules: looked into when ``target`` has no candidate; called once, on first need.
    """

    def __init__(
        self,
        local: Btf | None,
        target: Btf,
        modules: Callable[[], Iterable[Btf]] | None = None,
    ) -> None:
        self.local, self.target = local, target
        self._modules = modules
        self._opened: list[Btf] | None = None
        self._values: dict[tuple[int, int, str, str, str], CoreValue] = {}
        self._candidates: dict[tuple[str, str | int], list[tuple[Btf, int]]] = {}

    def resolve(self, reloc: Relocation) -> CoreValue:
        """The value of one relocation.

        :raises DecodeError: the relocation does not fit its own types.
        :raises UnsupportedError: candidates disagree, or a field is too wide to be read at once.
        """
        key = (reloc.kind, reloc.type_id, reloc.spec, reloc.type_name, reloc.access)
        value = self._values.get(key)
        if value is None:
            local, found = self._match(reloc)
            if reloc.kind == ck.BPF_CORE_TYPE_ID_LOCAL and local is not None:
                # Linkers give types new ids and leave the instruction as it is.
                value = CoreValue(local.root_id, None)
            else:
                value = self._decide(reloc, local, found)
            self._values[key] = value
        return value

    def matches(self, reloc: Relocation) -> list[Spec]:
        """The accesses in the target that a relocation means, one for each candidate that has it."""
        return self._match(reloc)[1]

    def _match(self, reloc: Relocation) -> tuple[Spec | None, list[Spec]]:
        if not 0 <= reloc.kind < len(ck.KIND_NAMES):
            raise DecodeError(f"unknown CO-RE relocation kind {reloc.kind}")
        if not reloc.type_id or self.local is None:
            return None, self._match_names(reloc)
        spec = parse_spec(self.local, reloc.type_id, reloc.kind, reloc.spec)
        if reloc.kind == ck.BPF_CORE_TYPE_ID_LOCAL:
            return spec, []
        record = self.local.type(reloc.type_id)
        if not record.name:
            raise UnsupportedError(f"CO-RE relocation {reloc.spec} is of a type without a name")
        key = ("id", reloc.type_id)
        candidates = self._candidates.get(key)
        if candidates is None:
            candidates = self._find(essential_name(record.name), lambda other: kinds_agree(record, other))
        found = [
            (place, match)
            for place in candidates
            if (match := match_spec(spec, reloc.kind, *place)) is not None
        ]
        self._candidates[key] = [place for place, _ in found] or candidates
        return spec, [match for _, match in found]

    def _match_names(self, reloc: Relocation) -> list[Spec]:
        """A script's relocation: type and members by name, no local types to compare with."""
        keyword, _, plain = reloc.type_name.rpartition(" ")
        wanted = kinds.KEYWORDS.get(keyword)
        name = essential_name(plain if wanted else reloc.type_name)
        allowed = wanted or _PLAIN_KINDS
        key = ("name", reloc.type_name)
        candidates = self._candidates.get(key)
        if candidates is None:
            candidates = self._find(name, lambda other: other.kind in allowed)
        found = [(place, match) for place in candidates if (match := _by_names(reloc, *place)) is not None]
        self._candidates[key] = [place for place, _ in found] or candidates
        return [match for _, match in found]

    def _find(self, name: str, suits: Callable[[Type], bool]) -> list[tuple[Btf, int]]:
        """Candidates in the target, else in its modules."""
        found = [(self.target, i) for i in _named(self.target, name) if suits(self.target.type(i))]
        if found or self._modules is None:
            return found
        if self._opened is None:
            self._opened = list(self._modules())
        return [
            (module, type_id)
            for module in self._opened
            for type_id in _named(module, name)
            if type_id >= module.first_id and suits(module.type(type_id))
        ]

    def _decide(self, reloc: Relocation, local: Spec | None, found: list[Spec]) -> CoreValue:
        """The one value that all matches give."""
        kind = reloc.kind
        mine = _part(kind, local) if local is not None else None
        if not found:
            missing = _missing(kind)
            original = mine.value if mine is not None and mine.check else None
            return CoreValue(missing or 0, original, poison=missing is None)
        parts = [_part(kind, match) for match in found]
        for match, part in zip(found[1:], parts[1:], strict=True):
            if match.bit_offset != found[0].bit_offset or part.value != parts[0].value:
                raise UnsupportedError(
                    f"CO-RE relocation {ck.core_kind_name(kind)} of {local or reloc.type_name} is ambiguous: "
                    f"{part.value} in {match.btf.name} type {match.root_id}, "
                    f"{parts[0].value} in {found[0].btf.name} type {found[0].root_id}"
                )
        theirs = parts[0]
        if mine is None or local is None:
            return CoreValue(theirs.value, relative=True, target=found[0])
        return CoreValue(
            theirs.value,
            mine.value if mine.check else None,
            False,
            theirs.size,
            mine.size,
            _resizable(local.btf, mine, found[0].btf, theirs),
            False,
            found[0],
        )


def resolve(reloc: Relocation, local: Btf | None, target: Btf) -> CoreValue:
    """One relocation alone; a Resolver is better for several of one object."""
    return Resolver(local, target).resolve(reloc)


def kernel_modules() -> Iterator[Btf]:
    """The running kernel's modules, for ``Resolver``."""
    from tracebee.btf.opening import module_names, open_module

    return (open_module(name) for name in module_names())


def _named(btf: Btf, name: str) -> list[int]:
    """Types of this name and its flavours."""
    return [*btf.find_all(name), *(i for flavour in btf.flavours(name) for i in btf.find_all(flavour))]


def _by_names(reloc: Relocation, target: Btf, type_id: int) -> Spec | None:
    if reloc.kind in ck.TYPE_KINDS:
        return Spec(target, type_id)
    if reloc.kind in ck.ENUMVAL_KINDS:
        return match_enumerator(reloc.access, target, type_id)
    try:
        return match_names(reloc.access, target, type_id)
    except SymbolError:
        return None


def _missing(kind: int) -> int | None:
    """The value where no target matches; None when there can be none."""
    if kind in (ck.BPF_CORE_FIELD_EXISTS, ck.BPF_CORE_ENUMVAL_EXISTS) or kind in ck.TYPE_KINDS:
        return 0
    return None


def _part(kind: int, spec: Spec) -> _Part:
    """The value of a relocation in the types of ``spec``."""
    if kind in ck.FIELD_KINDS:
        return _field_part(kind, spec)
    if kind in ck.ENUMVAL_KINDS:
        if kind == ck.BPF_CORE_ENUMVAL_EXISTS:
            return _Part(1)
        step = spec.steps[0]
        record = spec.btf.type(step.type_id)
        value = record.enumerators[step.number].value
        # 32-bit enumerators are taken as signed whatever their type says: old compilers do not say.
        if record.kind == kinds.BTF_KIND_ENUM and value >> 31:
            value |= -1 << 32
        return _Part(value)
    if kind == ck.BPF_CORE_TYPE_SIZE:
        return _Part(spec.btf.size(spec.root_id))
    if kind in (ck.BPF_CORE_TYPE_EXISTS, ck.BPF_CORE_TYPE_MATCHES):
        return _Part(1)
    # Type ids change when objects are linked, so the instruction may hold another.
    return _Part(spec.root_id, check=False)


def _field_part(kind: int, spec: Spec) -> _Part:
    btf = spec.btf
    if kind == ck.BPF_CORE_FIELD_EXISTS:
        return _Part(1)
    last = spec.steps[-1]
    if last.name is None:
        size = btf.size(last.type_id)
        if kind == ck.BPF_CORE_FIELD_BYTE_OFFSET:
            return _Part(spec.bit_offset // 8, True, size, last.type_id)
        if kind == ck.BPF_CORE_FIELD_BYTE_SIZE:
            return _Part(size)
        raise UnsupportedError(f"CO-RE relocation {ck.core_kind_name(kind)} cannot be of an array element")
    member = btf.type(last.type_id).members[last.number]
    type_id = btf.resolve(member.type_id)
    record = btf.type(type_id)
    bits, start = member.bit_size, spec.bit_offset
    offset, size = _storage(btf, start, bits, btf.size(type_id), spec)
    # Compilers choose freely how to load a bit-field: only its sign and width are certain.
    sure = not bits
    if kind == ck.BPF_CORE_FIELD_BYTE_OFFSET:
        if bits:
            return _Part(offset, sure)
        element = type_id
        while btf.type(element).kind == kinds.BTF_KIND_ARRAY:
            element = btf.resolve(btf.type(element).type_id)
        return _Part(offset, sure, btf.size(element), type_id)
    if kind == ck.BPF_CORE_FIELD_BYTE_SIZE:
        return _Part(size, sure)
    if kind == ck.BPF_CORE_FIELD_SIGNED:
        enum_signed = record.kind in kinds.ENUMS and record.flag
        int_signed = record.kind == kinds.BTF_KIND_INT and bool(record.encoding & kinds.BTF_INT_SIGNED)
        return _Part(int(enum_signed or int_signed))
    bits = bits or 8 * size
    if kind == ck.BPF_CORE_FIELD_RSHIFT_U64:
        return _Part(64 - bits)
    inside = start - 8 * offset
    left = 64 - (inside + bits) if btf.order == "little" else 8 * (8 - size) + inside
    return _Part(left, sure)


def _storage(btf: Btf, start: int, bits: int, size: int, spec: Spec) -> tuple[int, int]:
    """Offset and size in bytes of the aligned unit that holds all of a field."""
    if not bits:
        return start // 8, size
    size = size or 1
    offset = start // 8 // size * size
    while start + bits - 8 * offset > 8 * size:
        if size >= 8:
            raise UnsupportedError(f"bit-field {spec} of {btf.name} cannot be read with one load")
        size *= 2
        offset = start // 8 // size * size
    return offset, size


def _resizable(local: Btf, mine: _Part, target: Btf, theirs: _Part) -> bool:
    """Whether a load of one size gives the right value with the other: zeros fill pointers and unsigned
    integers, signs would be lost.
    """
    if mine.size == theirs.size:
        return True
    one, other = local.type(local.resolve(mine.type_id)), target.type(target.resolve(theirs.type_id))
    if one.kind == other.kind == kinds.BTF_KIND_PTR:
        return True
    return (
        one.kind == other.kind == kinds.BTF_KIND_INT
        and one.encoding != kinds.BTF_INT_SIGNED
        and other.encoding != kinds.BTF_INT_SIGNED
    )
