"""The BPF object of a compiled script: maps, programs and their descriptions."""

from __future__ import annotations

from tracebee.ir.compile import compile_module
from tracebee.lang.script import (
    EVENTS,
    LOST,
    MAX_FRAMES,
    RODATA,
    SCALARS,
    SCRATCH,
    STACKS_MORE,
    stacks_name,
)
from tracebee.lang.unit import Unit, is_aggregation, map_name
from tracebee.obj.model import MapDef, Object, ProgramDef
from tracebee.uapi import (
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_LRU_HASH,
    BPF_MAP_TYPE_LRU_PERCPU_HASH,
    BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_PERCPU_HASH,
    BPF_MAP_TYPE_RINGBUF,
    BPF_MAP_TYPE_STACK_TRACE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.ir import Function
    from tracebee.lang.analyse import Analyser, MapState
    from tracebee.lang.probe_api import ProbeGroup

BPF_F_NO_PREALLOC = 1 << 0
BPF_F_RDONLY_PROG = 1 << 7
BPF_F_MMAPABLE = 1 << 10

# Stacks whose bucket is taken go to a hash: the more buckets, the fewer do. Each takes 1 KiB.
_STACKS = 16384
_MORE_STACKS = 4096
# Memory for all entries is set aside at creation only where values are small: a histogram's would
# be megabytes for each CPU.
_LARGE_VALUE = 256


def assemble(unit: Unit, analyser: Analyser, programs: Sequence[tuple[Function, ProbeGroup]]) -> Object:
    """Compile the IR and put the object together."""
    options = analyser.options
    compiled = compile_module(
        unit.module,
        cpu_version=options.cpu_version,
        scratch_map=SCRATCH,
        after_pass=options.after_pass,
    )
    by_name = {f.name: f for f in compiled.functions}
    entries = {function.name for function, _ in programs}
    maps = [_script_map(state, options.config["max_map_keys"]) for state in _stored(analyser)]
    maps += _own_maps(
        unit, compiled.scratch_size, compiled.scratch_entries, options.config.get("perf_rb_pages")
    )
    return Object(
        _object_name(unit.source.name),
        str(options.config["license"]),
        tuple(maps),
        tuple(
            ProgramDef(
                by_name[function.name],
                group.section,
                group.program_type,
                group.expected_attach_type,
                1 << 4 if group.sleepable else 0,  # BPF_F_SLEEPABLE
                group.attach_target,
            )
            for function, group in programs
        ),
        tuple(f for f in compiled.functions if f.name not in entries),
    )


def _object_name(name: str) -> str:
    base = name.rsplit("/", 1)[-1].split(".")[0]
    return "".join(c if c.isalnum() else "_" for c in base) or "script"


def _stored(analyser: Analyser) -> list[MapState]:
    """Maps that need a BPF map of their own: all but scalars with a plain value."""
    states = (analyser.maps[name] for name in sorted(analyser.maps))
    return [s for s in states if s.value.kind != "unknown" and (s.keyed or is_aggregation(s))]


# Names of map declarations: ``let @m = lruhash(100)``.
_KINDS = {
    "hash": BPF_MAP_TYPE_HASH,
    "lruhash": BPF_MAP_TYPE_LRU_HASH,
    "percpuhash": BPF_MAP_TYPE_PERCPU_HASH,
    "percpulruhash": BPF_MAP_TYPE_LRU_PERCPU_HASH,
    "percpuarray": BPF_MAP_TYPE_PERCPU_ARRAY,
}


def _script_map(state: MapState, entries: int) -> MapDef:
    per_cpu = is_aggregation(state)
    size = -(-max(1, state.value.size) // 8) * 8
    if not state.keyed:
        return MapDef(map_name(state.name), BPF_MAP_TYPE_PERCPU_ARRAY, 4, size, 1)
    kind = BPF_MAP_TYPE_PERCPU_HASH if per_cpu else BPF_MAP_TYPE_HASH
    if state.declared is not None:
        entries = state.declared.entries
        if state.declared.kind in ("lruhash", "percpulruhash"):
            kind = BPF_MAP_TYPE_LRU_PERCPU_HASH if per_cpu else BPF_MAP_TYPE_LRU_HASH
    lru = kind in (BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH)
    flags = BPF_F_NO_PREALLOC if size > _LARGE_VALUE and not lru else 0
    return MapDef(map_name(state.name), kind, max(1, state.key.size), size, entries, flags)


# Actions that come now and then, for which the smallest buffer does.
_RARE = frozenset({"exit", "print_map", "clear", "zero", "time"})
_PAGE = 4096
_SMALL_BUFFER = 64 * _PAGE


def _buffer_size(unit: Unit, pages: int | None) -> int:
    """Bytes of the ring buffer, a power of two; 0 leaves it to the engine."""
    if pages:
        return 1 << (pages * _PAGE - 1).bit_length()
    return _SMALL_BUFFER if all(action.kind in _RARE for action in unit.actions) else 0


def _own_maps(unit: Unit, scratch_size: int, scratch_entries: int, buffer_pages: int | None) -> list[MapDef]:
    maps = []
    if unit.actions:
        maps.append(MapDef(EVENTS, BPF_MAP_TYPE_RINGBUF, 0, 0, _buffer_size(unit, buffer_pages)))
    if unit.lost:
        size = 8 * len(unit.lost)
        maps.append(MapDef(LOST, BPF_MAP_TYPE_ARRAY, 4, size, 1, BPF_F_MMAPABLE, contents=bytes(size)))
    maps += [
        MapDef(stacks_name(frames), BPF_MAP_TYPE_STACK_TRACE, 4, 8 * min(frames, MAX_FRAMES), _STACKS)
        for frames in sorted(unit.frames)
    ]
    if unit.frames:
        maps.append(
            MapDef(STACKS_MORE, BPF_MAP_TYPE_HASH, 8 * MAX_FRAMES, 8, _MORE_STACKS, BPF_F_NO_PREALLOC)
        )
    if unit.scalars_size:
        size = unit.scalars_size
        maps.append(MapDef(SCALARS, BPF_MAP_TYPE_ARRAY, 4, size, 1, BPF_F_MMAPABLE, contents=bytes(size)))
    if unit.rodata:
        data = bytes(unit.rodata)
        maps.append(
            MapDef(RODATA, BPF_MAP_TYPE_ARRAY, 4, len(data), 1, BPF_F_RDONLY_PROG, contents=data, frozen=True)
        )
    if scratch_entries:
        maps.append(MapDef(SCRATCH, BPF_MAP_TYPE_PERCPU_ARRAY, 4, scratch_size, scratch_entries))
    return maps
