"""What a program's runs cost in counters: as a person reads it, and as bpftool's JSON has it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.engine.kernel.profiler import Reading


def profile_records(runs: int, readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """One record for each metric, with bpftool's names."""
    return [
        {
            "metric": reading.metric.name,
            "run_cnt": runs,
            "value": reading.value,
            "enabled": reading.enabled,
            "running": reading.running,
        }
        for reading in readings
    ]


def profile_text(runs: int, readings: Sequence[Reading]) -> str:
    """The number of runs, then a line for each metric, with its ratio to another one that was counted too.

    A percentage in brackets is the share of the time that the counter was there to count.
    """
    lines = [f"\n{runs:>18} {'run_cnt':<20}"]
    by_name = {reading.metric.name: reading for reading in readings}
    for reading in readings:
        metric, base = reading.metric, by_name.get(reading.metric.ratio)
        line = f"{reading.value:>18} {metric.name:<20}"
        if base is not None and base.value:
            line += f"# {reading.value * metric.scale / base.value:>8.2f} {metric.words:<30}"
        else:
            line += " " * 41
        if reading.enabled > reading.running:
            line += f"({reading.running * 100 / reading.enabled:4.2f}%)"
        lines.append(line)
    return "\n".join(lines)
