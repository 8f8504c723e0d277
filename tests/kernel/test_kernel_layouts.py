"""Every number and layout, against the running kernel's own type information."""

from __future__ import annotations

import struct

import pytest

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.kernel import attr, perf
from tracebee.kernel.layout import Layout

pytestmark = pytest.mark.needs("btf")

Rows = dict[str, tuple[int, int]]


def _flatten(btf: Btf, type_id: int, base: int = 0, prefix: str = "") -> Rows:
    """Members by joined name: (byte offset, size)."""
    rows: Rows = {}
    for member in btf.type(btf.resolve(type_id)).members:
        inner = btf.type(btf.resolve(member.type_id))
        at = base + member.bit_offset // 8
        if inner.members:
            name = f"{prefix}{member.name}_" if member.name else prefix
            rows.update(_flatten(btf, member.type_id, at, name))
        elif not member.bit_size:
            rows[prefix + member.name] = (at, btf.size(member.type_id))
    return rows


def _alternatives(btf: Btf) -> list[tuple[str, Rows]]:
    """The structures in union bpf_attr: (member name, rows)."""
    union = btf.type(btf.find("union bpf_attr"))
    return [(m.name, _flatten(btf, m.type_id)) for m in union.members]


def _alternative(name: str) -> str:
    """Which of struct bpf_link_info's alternatives a joined name belongs to."""
    return "_".join(name.split("_")[: 3 if name.startswith("perf_event") else 1])


def _compare(layout: Layout, rows: Rows) -> None:
    for name, offset, code in layout.rows:
        if name in rows:
            assert (offset, struct.calcsize("=" + code)) == rows[name], name
        elif name == "flags" and layout is attr.PROG_INFO:
            assert offset == 84  # a word of bit-fields, which has no name
        else:
            # Newer than this kernel: where it goes, an older one has nothing of the same part.
            part = {
                place
                for other, (start, length) in rows.items()
                if layout is not attr.LINK_INFO or _alternative(other) == _alternative(name)
                for place in range(start, start + length)
            }
            assert offset not in part, f"{layout.name}.{name} is not in this kernel's structure"
    missing = set(rows) - {row[0] for row in layout.rows} - {"gpl_compatible"}
    assert not missing, f"the table lacks {missing}"


@pytest.mark.parametrize("command", sorted(attr.ATTR), ids=uapi.COMMAND_NAMES.get)
def test_attributes_of_each_command(command: int) -> None:
    layout = attr.ATTR[command]
    first = layout.rows[-1 if command == uapi.BPF_PROG_STREAM_READ_BY_FD else 0][0]
    candidates = [
        rows
        for name, rows in _alternatives(Btf.vmlinux())
        if (name == layout.name if layout.name else first in rows and not name)
    ]
    if not candidates:
        numbers = dict(Btf.vmlinux().enumerators("bpf_cmd"))
        assert command >= numbers["__MAX_BPF_CMD"]
        return
    assert len(candidates) == 1
    _compare(layout, candidates[0])


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (attr.PROG_INFO, "bpf_prog_info"),
        (attr.MAP_INFO, "bpf_map_info"),
        (attr.LINK_INFO, "bpf_link_info"),
        (attr.BTF_INFO, "bpf_btf_info"),
    ],
    ids=str,
)
def test_info_structures(layout: Layout, name: str) -> None:
    btf = Btf.vmlinux()
    structure = btf.find(f"struct {name}")
    _compare(layout, _flatten(btf, structure))


def test_perf_event_attr() -> None:
    btf = Btf.vmlinux()
    rows = _flatten(btf, btf.find("struct perf_event_attr"))
    for name, offset, code in perf.EVENT_ATTR.rows:
        if name != "flags":
            assert rows[name] == (offset, struct.calcsize("=" + code)), name
    bits = {
        m.name: m.bit_offset - 320 for m in btf.type(btf.find("struct perf_event_attr")).members if m.bit_size
    }
    for name, mask in perf.FLAGS.items():
        assert mask == 1 << bits[name], name


@pytest.mark.parametrize(
    ("enum", "prefix", "table"),
    [
        ("bpf_cmd", "", uapi.COMMANDS),
        ("bpf_map_type", "BPF_MAP_TYPE_", uapi.MAP_TYPES),
        ("bpf_prog_type", "BPF_PROG_TYPE_", uapi.PROG_TYPES),
        ("bpf_attach_type", "BPF_", uapi.ATTACH_TYPES),
        ("bpf_link_type", "BPF_LINK_TYPE_", uapi.LINK_TYPES),
        ("perf_sw_ids", "PERF_COUNT_SW_", {}),
    ],
)
def test_enumerations(enum: str, prefix: str, table: dict[str, int]) -> None:
    kernel = dict(Btf.vmlinux().enumerators(enum))
    end = next((v for name, v in kernel.items() if name.startswith("__MAX")), 1 << 31)
    if not table:
        spelled = {"page-faults-min": "minor-faults", "page-faults-maj": "major-faults"}
        kernel = {
            spelled.get(short := name[len(prefix) :].lower().replace("_", "-"), short): value
            for name, value in kernel.items()
        }
        assert {**kernel, **perf.SOFTWARE_EVENTS} == kernel
        return
    for short, number in table.items():
        name = prefix + (short.upper() if prefix else short)
        assert kernel.get(name, number if number >= end else None) == number, name
    named = {(prefix + short.upper() if prefix else short) for short in table}
    unknown = {name for name in kernel if name not in named and not name.startswith("__MAX")}
    assert {name for name in unknown if not name.endswith("_DEPRECATED") and name != "BPF_PROG_RUN"} == set()


def test_map_flags() -> None:
    btf = Btf.vmlinux()
    for name in dir(uapi):
        if name.startswith("BPF_F_") and not name.startswith(("BPF_F_TEST", "BPF_F_XDP")):
            if name in _PREPROCESSOR:
                continue
            assert btf.enumerator(name)[0] == getattr(uapi, name), name


# Constants that bpf.h defines for the preprocessor, which leaves no trace in BTF.
_PREPROCESSOR = {
    *("BPF_F_STRICT_ALIGNMENT", "BPF_F_ANY_ALIGNMENT", "BPF_F_SLEEPABLE"),
    *("BPF_F_ALLOW_OVERRIDE", "BPF_F_ALLOW_MULTI", "BPF_F_QUERY_EFFECTIVE"),
}
