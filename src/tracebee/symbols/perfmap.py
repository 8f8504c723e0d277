"""Code made at run time, as JIT compilers name it in ``/tmp/perf-PID.map`` (the kernel's
tools/perf/Documentation/jit-interface.txt).
"""

from __future__ import annotations

from bisect import bisect_right


class PerfMap:
    """The functions in one such file."""

    def __init__(self, text: str) -> None:
        rows = []
        for line in text.splitlines():
            start, _, rest = line.partition(" ")
            size, _, name = rest.partition(" ")
            try:
                rows.append((int(start, 16), int(size, 16), name))
            except ValueError:
                continue  # a compiler may be in the middle of writing the last line
        # A later line replaces an earlier one for the same address: sorting is stable.
        rows.sort(key=lambda row: row[0])
        self._rows = rows
        self._starts = [row[0] for row in rows]

    def resolve(self, address: int) -> tuple[str, int] | None:
        """The function an address lies in, and the offset into it."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            start, size, name = self._rows[at]
            if address < start + size:
                return name, address - start
        return None


def read(pid: int) -> PerfMap | None:
    """The file of a process, in its own root and under the number its own namespace gives it."""
    inner = _inner_pid(pid)
    for path in (f"/proc/{pid}/root/tmp/perf-{inner}.map", f"/tmp/perf-{pid}.map"):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return PerfMap(file.read())
        except OSError:
            continue
    return None


def _inner_pid(pid: int) -> int:
    """The process's number in its innermost PID namespace."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        pass
    return pid
