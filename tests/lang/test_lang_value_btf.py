"""Script types as BTF: sizes agree, the kernel takes them, and bpftool prints maps by them."""

from __future__ import annotations

import json
import struct
import subprocess

import pytest

from tracebee import uapi
from tracebee.btf.builder import Builder
from tracebee.kernel.btf import Btf as KernelBtf
from tracebee.kernel.map import Map
from tracebee.lang.script import SCALARS, MapInfo
from tracebee.lang.types import BOOL, INT32, UINT64, Type, TypeField
from tracebee.lang.value_btf import MapTypes
from tracebee.obj.model import MapDef

PAIR = Type("tuple", 24, fields=(TypeField("0", Type("string", 16), 0), TypeField("1", INT32, 16)))
RECORD = Type("record", 8, name="struct s", fields=(TypeField("a", INT32, 0), TypeField("b", BOOL, 4)))
BITS = Type("record", 4, name="struct b", fields=(TypeField("low", INT32, 0, 0, 3),))
TYPES = [
    *(Type("int", n, signed=s) for n in (1, 2, 4, 8) for s in (False, True)),
    *(Type(kind, 4) for kind in ("enum", "username", "probe", "strerror")),
    *(Type(kind, 8) for kind in ("ksym", "timestamp", "cgroup_path", "count", "pointer")),
    *(Type(kind, 16) for kind in ("kstack", "ustack", "usym", "avg", "stats", "min", "max")),
    *(Type(kind, 520) for kind in ("hist", "lhist", "tseries")),
    *(
        BOOL,
        Type("string", 64),
        Type("buffer", 20),
        Type("inet", 20),
        Type("mac", 6),
        Type("sum", 8, signed=True),
    ),
    *(PAIR, RECORD, BITS, Type("array", 12, element=INT32, number=3)),
    *(Type("array", 40, element=RECORD, number=5), Type("tuple", 32, fields=(TypeField("0", PAIR, 8),))),
]


@pytest.mark.parametrize("t", TYPES, ids=lambda t: f"{t.kind}{t.size}")
def test_a_type_has_its_size(t: Type) -> None:
    b = Builder()
    type_id = MapTypes(b).of(t)
    assert b.build().size(type_id) == t.size


@pytest.mark.needs("bpf")
def test_the_kernel_takes_maps_of_every_type() -> None:
    b = Builder()
    definition = MapDef("m", uapi.BPF_MAP_TYPE_HASH, 0, 0, 4)
    definitions = [
        definition._replace(name=f"m{i}", key_size=t.size, value_size=t.size) for i, t in enumerate(TYPES)
    ]
    infos = [MapInfo(f"@m{i}", f"m{i}", t, t) for i, t in enumerate(TYPES)]
    typed = MapTypes(b).typed(definitions, infos)
    with KernelBtf.load(b.to_bytes()) as types:
        for one in typed:
            assert one.key_type_id
            Map.create(one, btf=types).close()


@pytest.mark.needs("bpf", "bpftool")
def test_bpftool_prints_keys_and_values_by_name() -> None:
    b = Builder()
    infos = [MapInfo("@m", "m", PAIR, Type("avg", 16))]
    (definition,) = MapTypes(b).typed([MapDef("m", uapi.BPF_MAP_TYPE_HASH, 24, 16, 4)], infos)
    with KernelBtf.load(b.to_bytes()) as types, Map.create(definition, btf=types) as created:
        created.update(struct.pack("=16si4x", b"bash", -7), struct.pack("=qQ", -3, 2))
        number = str(created.info().id)
        run = subprocess.run(["bpftool", "map", "dump", "id", number], capture_output=True, check=True)
    expected = [{"key": {"_0": "bash", "_1": -7}, "value": {"total": -3, "count": 2}}]
    assert json.loads(run.stdout) == expected


def test_variables_without_keys_are_members_of_one_struct() -> None:
    b = Builder()
    infos = [
        MapInfo("@second", SCALARS, None, Type("string", 8), 40),
        MapInfo("@", SCALARS, None, UINT64, 8),
        MapInfo("@first", SCALARS, None, INT32, 24),
    ]
    (definition,) = MapTypes(b).typed([MapDef(SCALARS, uapi.BPF_MAP_TYPE_ARRAY, 4, 48, 1)], infos)
    btf = b.build()
    declared = [(btf.declare(f.type_id, f.name), f.offset) for f in btf.fields(definition.value_type_id)]
    assert declared == [
        *(("u64 AT_set", 0), ("u64 AT", 8), ("u64 first_set", 16), ("s64 first", 24)),
        *(("u64 second_set", 32), ("char second[8]", 40)),
    ]
    assert btf.name_of(definition.key_type_id) == "u32"


def test_other_maps_are_left_alone() -> None:
    events = MapDef("events", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)
    assert MapTypes(Builder()).typed([events], []) == (events,)
