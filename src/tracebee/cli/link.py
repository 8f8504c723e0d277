"""``tracebee link``: programs attached by links."""

from __future__ import annotations

from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch

USAGE = """\
usage: tracebee link [show|list] [LINK]       what is attached where
       tracebee link pin LINK PATH            keep it attached without a process
       tracebee link detach LINK              detach, although others hold it
       tracebee link update LINK PROG         put another program in its place
  LINK := { id NUMBER | pinned PATH }  PROG := { id NUMBER | name NAME | tag TAG | pinned PATH }
  options: -j JSON, -p indented JSON, -f with the places where it is pinned"""


def run(argv: list[str]) -> int:
    """The command ``tracebee link``."""
    commands = {"show": _show, "list": _show, "pin": _pin, "detach": _detach, "update": _update}
    return dispatch(argv, commands, USAGE)


def _show(words: Words) -> int:
    from tracebee.kernel import choose
    from tracebee.report.inspect.link_text import link_text
    from tracebee.report.inspect.survey import link_records

    how = words.choice(*choice.LINK) if words else None
    words.end()
    records = link_records([choose.link(*how)] if how else None, bpffs=words.bpffs)
    return choice.show(words, records, link_text, one=how is not None)


def _pin(words: Words) -> int:
    with choice.link(words) as link:
        path = choice.pin_path(words)
        words.end()
        choice.pin(words, link, path)
    return choice.done(words)


def _detach(words: Words) -> int:
    with choice.link(words) as link:
        words.end()
        link.force_detach()
    return choice.done(words)


def _update(words: Words) -> int:
    with choice.link(words) as link, choice.program(words) as program:
        words.end()
        link.update(program)
    return choice.done(words)
