"""``tracebee detach``: end a script that was left in the kernel by ``--pin``."""

from __future__ import annotations

import sys

from tracebee.cli.words import Words

USAGE = """\
usage: tracebee detach NAME    run its END, print what it still has to say and its maps, and remove it
  options: -j JSON, one record a line"""


def run(argv: list[str]) -> int:
    """The command ``tracebee detach``."""
    words = Words(argv, USAGE)
    if words.help or not words:
        print(USAGE)
        return 0 if words.help else 1
    from tracebee.cli.attach import make_reporter
    from tracebee.engine.kernel.pinned import PinnedEngine
    from tracebee.engine.kernel.pinned_directory import remove_leftover
    from tracebee.engine.run import run as follow

    name = words.next("a pinned script's name")
    words.end()
    if remove_leftover(name):
        print(f"{name} was not pinned whole; what there was is removed", file=sys.stderr)
        return 0
    engine = PinnedEngine(name, ending=True)
    try:
        reporter = make_reporter(engine, json=words.json)
        try:
            code = follow(engine, reporter, once=True)
        finally:
            reporter.flush()
        return engine.exit_code() or code
    finally:
        engine.close()
