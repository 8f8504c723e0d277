"""``tracebee detach``: end a script that was left in the kernel by ``--pin``."""

from __future__ import annotations

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
    from tracebee.engine.run import run as follow

    name = words.next("a pinned script's name")
    words.end()
    engine = PinnedEngine(name, ending=True)
    try:
        reporter = make_reporter(engine, json=words.json)
        try:
            return follow(engine, reporter, once=True)
        finally:
            reporter.flush()
    finally:
        engine.close()
