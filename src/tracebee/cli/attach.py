"""``tracebee attach``: read the events and maps of a script that was left in the kernel by ``--pin``."""

from __future__ import annotations

import sys
import time

from tracebee.cli.words import Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.engine.kernel.pinned import PinnedEngine
    from tracebee.report.reporter import Reporter

USAGE = """\
usage: tracebee attach             list the scripts that run in the kernel without a process
       tracebee attach NAME        print its events as they come, and its maps on Ctrl-C; it runs on
       tracebee attach NAME now    print the events that wait and the maps, and leave
  options: -j JSON"""


def run(argv: list[str]) -> int:
    """The command ``tracebee attach``."""
    words = Words(argv, USAGE)
    if words.help:
        print(USAGE)
        return 0
    if not words:
        return _list(words)
    from tracebee.engine.kernel.pinned import PinnedEngine
    from tracebee.engine.run import run as follow

    name = words.next("a pinned script's name")
    now = bool(words.accept("now"))
    words.end()
    engine = PinnedEngine(name, now=now)
    try:
        reporter = make_reporter(engine, json=words.json)
        try:
            stopped = engine.exit_code() is not None
            code = follow(engine, reporter, once=now or stopped)
        finally:
            reporter.flush()
        if engine.exit_code() is not None:
            note = f"{name} has stopped: it called exit(); 'tracebee detach {name}' removes it"
            print(note, file=sys.stderr)
        return code
    finally:
        engine.close()


def _list(words: Words) -> int:
    from tracebee.cli.choice import show
    from tracebee.engine.kernel.pinned_directory import pinned_scripts

    return show(words, [script._asdict() for script in pinned_scripts()], _text, one=False)


def _text(record: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["since"]))
    probes = f"{record['probes']} probe{'' if record['probes'] == 1 else 's'}"
    return f"{record['name']}  {record['source']}  {probes}  since {since}"


def make_reporter(engine: PinnedEngine, *, json: bool) -> Reporter:
    """A reporter for a pinned script's output on standard output."""
    from tracebee.api.names import LazyNames
    from tracebee.report.reporter import Reporter

    script = engine.script
    return Reporter(
        script,
        engine.maps,
        engine.stacks,
        LazyNames(demangled=bool(script.config.get("cpp_demangle", True))),
        out=sys.stdout.buffer,
        err=sys.stderr.buffer,
        json=json,
        quiet=True,
    )
