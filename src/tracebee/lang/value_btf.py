"""Script types as BTF, so that the kernel and bpftool show a script's maps with names and numbers."""

from __future__ import annotations

from tracebee.btf.kinds import BTF_INT_BOOL, BTF_INT_CHAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf.builder import Builder
    from tracebee.lang.script import MapInfo
    from tracebee.lang.types import Type
    from tracebee.obj.model import MapDef

_INT, _UINT = {1: "s8", 2: "s16", 4: "s32", 8: "s64"}, {1: "u8", 2: "u16", 4: "u32", 8: "u64"}

# Types that are structs of integers: (name, size in bytes, signed) each; lang.types says what they hold.
_STRUCTS: dict[str, tuple[tuple[str, int, bool], ...]] = {
    "kstack": (("id", 8, True), ("frames", 4, False), ("unused", 4, False)),
    "ustack": (("id", 8, True), ("tgid", 4, False), ("pid", 4, False)),
    "usym": (("address", 8, False), ("tgid", 4, False), ("pid", 4, False)),
    "avg": (("total", 8, True), ("count", 8, False)),
    "stats": (("total", 8, True), ("count", 8, False)),
    "min": (("value", 8, True), ("set", 8, False)),
    "max": (("value", 8, True), ("set", 8, False)),
}
# Types that are arrays of 64-bit integers.
_BUCKETS = frozenset({"hist", "lhist", "tseries"})
# Types that are one integer.
_INTEGERS = frozenset(
    {"int", "enum", "ksym", "username", "probe", "timestamp", "cgroup_path", "strerror", "count", "sum"}
)


class MapTypes:
    """Adds the types of a script's maps to a Builder."""

    def __init__(self, builder: Builder) -> None:
        self.b = builder

    def typed(self, definitions: Iterable[MapDef], infos: Iterable[MapInfo]) -> tuple[MapDef, ...]:
        """The maps with the ids of their keys' and values' types; those of no variable as they are."""
        by_name: dict[str, list[MapInfo]] = {}
        for info in infos:
            by_name.setdefault(info.map, []).append(info)
        return tuple(self._typed(d, by_name[d.name]) if d.name in by_name else d for d in definitions)

    def _typed(self, definition: MapDef, infos: list[MapInfo]) -> MapDef:
        if infos[0].scalar_index >= 0:
            value = self._scalars(definition, infos)
        else:
            value = self.of(infos[0].value, definition.value_size)
        key = infos[0].key
        index = self.b.integer("u32", 4) if key is None else self.of(key, definition.key_size)
        return definition._replace(key_type_id=index, value_type_id=value)

    def _scalars(self, definition: MapDef, infos: list[MapInfo]) -> int:
        """The variables without keys, each behind the number that says whether it was set."""
        members: list[tuple[str, int, int]] = []
        for info in sorted(infos, key=lambda i: i.scalar_index):
            name = _identifier(info.name.lstrip("@") or "AT")
            size = info.value.size if info.value.kind != "int" else 8
            members.append((f"{name}_set", self.b.integer("u64", 8), 8 * (info.scalar_index - 8)))
            members.append((name, self.of(info.value, size), 8 * info.scalar_index))
        return self.b.struct(_identifier(definition.name), definition.value_size, members)

    def of(self, t: Type, size: int = 0) -> int:
        """The id of a type that takes ``size`` bytes (its own size when 0)."""
        b, size = self.b, size or t.size
        kind = t.kind
        if kind in _INTEGERS and size in _INT:
            return b.integer((_INT if t.signed else _UINT)[size], size, signed=t.signed)
        if kind == "bool" and size == 1:
            return b.integer("bool", 1, encoding=BTF_INT_BOOL)
        if kind == "string":
            return b.array(b.integer("char", 1, encoding=BTF_INT_CHAR), size)
        if kind == "pointer" and size == 8:
            return b.ptr(0)
        if kind in _STRUCTS and size == sum(row[1] for row in _STRUCTS[kind]):
            return self._struct(kind, size, _STRUCTS[kind])
        if kind in _BUCKETS:
            return b.array(b.integer("u64", 8), size // 8)
        if kind == "buffer" and size > 4:
            text = b.array(b.integer("u8", 1), size - 4)
            return b.struct("buffer", size, [("length", b.integer("u32", 4), 0), ("data", text, 32)])
        if kind == "array" and t.element is not None and t.number and size == t.number * t.element.size:
            return b.array(self.of(t.element), t.number)
        if kind in ("tuple", "record") and not any(f.bit_size for f in t.fields):
            members = [(_identifier(f.name), self.of(f.type), 8 * f.offset) for f in t.fields]
            return b.struct("", size, members)
        return b.array(b.integer("u8", 1), size)

    def _struct(self, name: str, size: int, rows: Sequence[tuple[str, int, bool]]) -> int:
        members, at = [], 0
        for member, width, signed in rows:
            number = self.b.integer((_INT if signed else _UINT)[width], width, signed=signed)
            members.append((member, number, at))
            at += 8 * width
        return self.b.struct(name, size, members)


def _identifier(name: str) -> str:
    """A name the kernel accepts for a member: tuples' members are called ``0``, ``1``..."""
    text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return f"_{text}" if text[:1].isdigit() else text
