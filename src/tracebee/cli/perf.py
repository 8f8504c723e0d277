"""``tracebee perf``: programs on perf events and raw tracepoints, by the processes that hold them."""

from __future__ import annotations

from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch

USAGE = """\
usage: tracebee perf [show|list]    programs on perf events and raw tracepoints, with process and descriptor
  options: -j JSON, -p indented JSON"""


def run(argv: list[str]) -> int:
    """The command ``tracebee perf``."""
    return dispatch(argv, {"show": _show, "list": _show}, USAGE)


def _show(words: Words) -> int:
    from tracebee.kernel.perf_users import perf_users
    from tracebee.report.inspect.perf import perf_record, perf_text

    words.end()
    return choice.show(words, [perf_record(user) for user in perf_users()], perf_text, one=False)
