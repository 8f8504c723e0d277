"""A script's maps as Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tracebee.report import aggregate, entries, histogram
from tracebee.report.decode import decoder

if TYPE_CHECKING:
    from tracebee.engine.api import MapReader
    from tracebee.lang.script import MapInfo, Script
    from tracebee.lang.types import Type
    from tracebee.report.scene import Scene


class Maps(Mapping[str, Any]):
    """The maps by name, ``@`` included, each read when asked for.

    A map with keys is a dict in the order bpftrace prints it; a scalar map is its value, or None while
    it was not set. Keys and values are as in ``report.decode``: integers, strings, tuples, ``Totals``
    of averages, lists of histogram buckets.
    """

    def __init__(self, script: Script, readers: Mapping[str, MapReader], scene: Scene) -> None:
        self._infos = {info.name: info for info in script.maps}
        self._readers = readers
        self._scene = scene

    def __getitem__(self, name: str) -> Any:
        info = self._infos[name]
        found = entries.ordered(info, entries.read(info, self._readers[info.map]))
        value = _value(info.value, self._scene)
        if info.key is None:
            return value(found[0].value) if found else None
        key = decoder(info.key, self._scene)
        return {_hashable(key(entry.key)): value(entry.value) for entry in found}

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def info(self, name: str) -> MapInfo:
        """The types of a map."""
        return self._infos[name]

    def clear(self, name: str) -> None:
        """Empty a map."""
        info = self._infos[name]
        entries.clear(info, self._readers[info.map])


def _value(t: Type, scene: Scene) -> Any:
    if t.kind == "hist":
        return lambda merged: histogram.log_buckets(merged, t.number)
    if t.kind == "lhist":
        return lambda merged: histogram.linear_buckets(merged, *t.args)
    if aggregate.is_aggregation(t):
        return lambda merged: merged
    return decoder(t, scene)


def _hashable(key: Any) -> Any:
    if isinstance(key, list):
        return tuple(_hashable(k) for k in key)
    if isinstance(key, dict):
        return tuple((name, _hashable(k)) for name, k in key.items())
    return key
