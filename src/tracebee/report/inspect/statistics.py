"""How often programs run and how long they take, measured by the kernel for a while."""

from __future__ import annotations

import contextlib
import time

from tracebee.kernel import choose
from tracebee.kernel.program import Program, enable_stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.kernel.program_info import ProgramInfo


def measure(programs: Sequence[Program] | None, seconds: float) -> list[dict[str, Any]]:
    """Runs and time of programs, all for None, within some seconds or until Ctrl-C; the busiest first.

    Closes the programs.

    :returns: records with ``id``, ``name``, ``run_cnt``, ``run_time_ns``, ``ns_per_run`` and
        ``cpu_percent``, one CPU being 100.
    """
    with enable_stats():
        watched = list(choose.all_programs()) if programs is None else list(programs)
        try:
            before = [program.info() for program in watched]
            start = time.monotonic()
            with contextlib.suppress(KeyboardInterrupt):  # what has been measured until then is told
                time.sleep(seconds)
            after = [program.info() for program in watched]
            elapsed = time.monotonic() - start
        finally:
            for program in watched:
                program.close()
    records = [_difference(*pair, elapsed) for pair in zip(before, after, strict=True)]
    return sorted(records, key=lambda record: -record["run_time_ns"])


def _difference(before: ProgramInfo, after: ProgramInfo, elapsed: float) -> dict[str, Any]:
    runs, spent = after.run_cnt - before.run_cnt, after.run_time_ns - before.run_time_ns
    return {
        "id": after.id,
        "name": after.name,
        "run_cnt": runs,
        "run_time_ns": spent,
        "ns_per_run": round(spent / runs) if runs else 0,
        "cpu_percent": round(spent / elapsed / 1e7, 3),
    }


def statistics_text(records: list[dict[str, Any]]) -> str:
    """The records as a table."""
    lines = [f"{'ID':>7} {'RUNS':>10} {'NS/RUN':>8} {'CPU%':>7}  NAME"]
    lines.extend(
        f"{r['id']:>7} {r['run_cnt']:>10} {r['ns_per_run']:>8} {r['cpu_percent']:>7.3f}  {r['name']}"
        for r in records
    )
    return "\n".join(lines)
