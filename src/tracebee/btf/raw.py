"""Types as ``bpftool btf dump`` lists them, one by one: records for JSON, and text."""

from __future__ import annotations

from tracebee.btf import kinds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

_ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}
_LINKAGES = {
    kinds.BTF_KIND_FUNC: ("static", "global", "extern"),
    kinds.BTF_KIND_VAR: ("static", "global", "extern"),
}
# A record's list: its key and what each entry's keys print as in text.
_LISTS = ("members", "values", "params", "vars")


def record_of(type_id: int, record: Type) -> dict[str, Any]:
    """One type with bpftool's JSON keys."""
    kind = record.kind
    out: dict[str, Any] = {
        "id": type_id,
        "kind": kinds.kind_name(kind),
        "name": _name(record.name),
    }
    if kind == kinds.BTF_KIND_INT:
        encoding = _ENCODINGS.get(record.encoding, str(record.encoding))
        out.update(size=record.size, bits_offset=record.bit_offset, nr_bits=record.bits, encoding=encoding)
    elif kind == kinds.BTF_KIND_ARRAY:
        out.update(type_id=record.type_id, index_type_id=record.index_type_id, nr_elems=record.nelems)
    elif kind in kinds.COMPOSITES:
        out.update(size=record.size, vlen=len(record.members), members=_members(record))
    elif kind in kinds.ENUMS:
        out.update(
            encoding="SIGNED" if record.flag else "UNSIGNED",
            size=record.size,
            vlen=len(record.enumerators),
            values=[{"name": _name(e.name), "val": e.value} for e in record.enumerators],
        )
    elif kind == kinds.BTF_KIND_FWD:
        out["fwd_kind"] = "union" if record.flag else "struct"
    elif kind == kinds.BTF_KIND_FUNC_PROTO:
        params = [{"name": _name(p.name), "type_id": p.type_id} for p in record.params]
        out.update(ret_type_id=record.type_id, vlen=len(params), params=params)
    elif kind in _LINKAGES:
        names = _LINKAGES[kind]
        linkage = names[record.linkage] if record.linkage < len(names) else "(unknown)"
        out.update(type_id=record.type_id, linkage=linkage)
    elif kind == kinds.BTF_KIND_DATASEC:
        variables = [v._asdict() for v in record.variables]
        out.update(size=record.size, vlen=len(variables), vars=variables)
    elif kind == kinds.BTF_KIND_FLOAT:
        out["size"] = record.size
    elif kind == kinds.BTF_KIND_DECL_TAG:
        out.update(type_id=record.type_id, component_idx=record.component)
    else:
        out["type_id"] = record.type_id
    return out


def _name(name: str) -> str:
    return name or "(anon)"


def _members(record: Type) -> list[dict[str, Any]]:
    members = []
    for member in record.members:
        entry = {
            "name": _name(member.name),
            "type_id": member.type_id,
            "bits_offset": member.bit_offset,
        }
        if member.bit_size:
            entry["bitfield_size"] = member.bit_size
        members.append(entry)
    return members


def records(btf: Btf) -> Iterator[dict[str, Any]]:
    """Every type of ``btf`` (not of its base) as bpftool's JSON has them under ``types``."""
    for type_id, record in btf.types():
        yield record_of(type_id, record)


def format_raw(btf: Btf) -> Iterator[str]:
    """Lines of text, a type and its members each on their own."""
    for entry in records(btf):
        yield _head(entry)
        for key in _LISTS:
            for item in entry.get(key, ()):
                yield _item(btf, key, item, entry["kind"])


def _head(entry: dict[str, Any]) -> str:
    fields = [f"{key}={value}" for key, value in entry.items() if key not in ("id", "kind", "name", *_LISTS)]
    separator = ", " if entry["kind"] == "VAR" else " "
    return f"[{entry['id']}] {entry['kind']} '{entry['name']}' {separator.join(fields)}".rstrip()


def _item(btf: Btf, key: str, item: dict[str, Any], kind: str) -> str:
    fields = " ".join(f"{k}={v}" for k, v in item.items() if k != "name")
    if key == "vars":
        variable = btf.type(item["type_id"])
        return f"\t{fields} ({kinds.kind_name(variable.kind)} '{variable.name}')"
    suffix = ""
    if kind == "ENUM64":
        suffix = "LL" if item["val"] < 0 else "ULL"
    return f"\t'{item['name']}' {fields}{suffix}"
