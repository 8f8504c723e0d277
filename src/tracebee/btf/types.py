"""The records that BTF types decode to."""

from __future__ import annotations

# No postponed annotations here: NamedTuple compiles each one that is a string, which doubles the
# time the classes take to make.
from tracebee.typed import NamedTuple


class Member(NamedTuple):
    """A member of a struct or union. ``bit_offset`` counts from its start; ``bit_size`` is 0 unless
    it is a bit-field; an anonymous struct or union has the name ``""``.
    """

    name: str
    type_id: int
    bit_offset: int
    bit_size: int = 0


class Param(NamedTuple):
    """A parameter; type 0 in the last place is C's ``...``."""

    name: str
    type_id: int


class Enumerator(NamedTuple):
    """A name of an enumeration and its value, negative where the enumeration is signed."""

    name: str
    value: int


class Variable(NamedTuple):
    """A variable's place in a data section, in bytes; ``type_id`` is its BTF_KIND_VAR."""

    type_id: int
    offset: int
    size: int


class Type(NamedTuple):
    """One BTF type; one record for all kinds, as ``struct btf_type`` is (a class for each kind would
    cost milliseconds at start). Fields that a kind does not have are left at their defaults.

    ==============  =============================================================================
    field           meaning
    ==============  =============================================================================
    kind            BTF_KIND_*
    name            empty when anonymous
    size            bytes: INT, FLOAT, STRUCT, UNION, ENUM, ENUM64, DATASEC
    type_id         what is referred to: PTR, TYPEDEF, qualifiers, TYPE_TAG, VAR, FUNC (its
                    FUNC_PROTO), DECL_TAG (its target), ARRAY (element), FUNC_PROTO (return type)
    flag            the kind flag: FWD of a union, STRUCT and UNION with bit-field sizes, signed
                    ENUM and ENUM64, a TYPE_TAG or DECL_TAG that is a full attribute
    members         STRUCT, UNION
    params          FUNC_PROTO
    enumerators     ENUM, ENUM64
    variables       DATASEC
    encoding        INT: BTF_INT_SIGNED, BTF_INT_CHAR, BTF_INT_BOOL
    bits            INT: its width, ``bit_offset``: where in its bytes it starts
    nelems          ARRAY: number of elements; ``index_type_id``: type of its index
    linkage         FUNC: BTF_FUNC_*, VAR: BTF_VAR_*
    component       DECL_TAG: index of the tagged member or parameter, -1 for the target itself
    ==============  =============================================================================
    """

    kind: int
    name: str = ""
    size: int = 0
    type_id: int = 0
    flag: bool = False
    members: tuple[Member, ...] = ()
    params: tuple[Param, ...] = ()
    enumerators: tuple[Enumerator, ...] = ()
    variables: tuple[Variable, ...] = ()
    encoding: int = 0
    bits: int = 0
    bit_offset: int = 0
    nelems: int = 0
    index_type_id: int = 0
    linkage: int = 0
    component: int = 0


VOID = Type(0, "void")


class Layout(NamedTuple):
    """A struct or union: size in bytes, members in source order, anonymous ones as they are."""

    id: int
    kind: int
    name: str
    size: int
    members: tuple[Member, ...]


class Field(NamedTuple):
    """A member reached by a path, also through anonymous members and array elements.

    :param bit_offset: from the start of the root type.
    :param bit_size: 0 unless a bit-field.
    :param indices: the CO-RE access: 0, then a member or element index for each step.
    """

    name: str
    type_id: int
    bit_offset: int
    bit_size: int
    indices: tuple[int, ...]

    @property
    def offset(self) -> int:
        """The offset in bytes, rounded down for a bit-field."""
        return self.bit_offset >> 3


class Prototype(NamedTuple):
    """A function's parameters and return type.

    :param id: the BTF_KIND_FUNC (for a tracepoint: the BTF_KIND_TYPEDEF), which attaching asks for.
    :param type_id: the BTF_KIND_FUNC_PROTO.
    """

    name: str
    id: int
    type_id: int
    params: tuple[Param, ...]
    return_id: int
    variadic: bool = False
