"""``tracebee feature``: what the running kernel offers to BPF programs, found by trying and in its types."""

from __future__ import annotations

from functools import partial

from tracebee.cli.words import Words
from tracebee.errors import PrivilegeError, UnsupportedError, UsageError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

USAGE = """\
usage: tracebee feature [probe] [kernel] [full] [SECTION...] [helpers PROGRAM_TYPE]
       tracebee feature list_builtins GROUP         names that tracebee knows, whatever the kernel
  SECTION := { system | features | programs | maps | helpers | kfuncs | attach | links | commands | limits }
  GROUP := { prog_types | map_types | attach_types | link_types | helpers }
  full: try also the helpers that make the kernel write to its log
  options: -j JSON, -p indented JSON"""

# Other forms that bpftool has.
_NOT_HERE = {
    "dev": "what network cards run is not tried",
    "macros": "definitions for the C compiler are not written; -j has the same answers",
    "unprivileged": "run 'tracebee feature' as that user, for example by setpriv(1)",
}


class Section(NamedTuple):
    """A part of the answer: its heading, its key in JSON, and how it is found and written."""

    title: str
    key: str
    find: Callable[[], Any]
    text: Callable[[Any], list[str]]


def run(argv: list[str]) -> int:
    """The command ``tracebee feature``."""
    words = Words(argv, USAGE)
    if words.help or words.accept("help"):
        print(USAGE)
        return 0
    if words.accept("list_builtins"):
        return _list_builtins(words)
    words.accept("probe")
    words.accept("kernel")
    full = bool(words.accept("full"))
    if words.peek() in _NOT_HERE:
        raise UnsupportedError(f"'{words.peek()}': {_NOT_HERE[words.peek()]}")
    sections = _sections(full=full)
    chosen: dict[str, Section] = {}
    while words:
        name = words.next("a section")
        if name not in sections:
            from tracebee.suggest import did_you_mean

            raise UsageError(f"there is no section '{name}'", hint=did_you_mean(name, sections) or words.hint)
        chosen[name] = sections[name]
        if name == "helpers" and words and words.peek() not in sections:
            chosen[name] = _helpers_of(words.next("a program type"), full=full)
    return _print(words, list((chosen or sections).values()))


def _list_builtins(words: Words) -> int:
    from tracebee import uapi
    from tracebee.isa.helpers import HELPERS

    groups = {
        "prog_types": list(uapi.PROG_TYPES),
        "map_types": list(uapi.MAP_TYPES),
        "attach_types": list(uapi.ATTACH_TYPES),
        "link_types": list(uapi.LINK_TYPES),
        "helpers": ["bpf_unspec", *(f"bpf_{helper.name}" for helper in HELPERS)],
    }
    name = words.next("a group")
    words.end()
    if name not in groups:
        raise UsageError(f"there is no group '{name}'", hint=f"groups: {', '.join(groups)}")
    if words.json:
        words.print_json(groups[name])
    else:
        print("\n".join(groups[name]))
    return 0


def _print(words: Words, sections: list[Section]) -> int:
    from tracebee.report.inspect import capabilities

    if words.json:
        answer = {section.key: section.find() for section in sections}
        if "features" in answer:
            answer["misc"] = capabilities.misc(answer["features"])
        if "system_config" in answer:
            answer["syscall_config"] = {"have_bpf_syscall": True}
        words.print_json(answer)
        return 0
    for number, section in enumerate(sections):
        try:
            lines = section.text(section.find())
        except PrivilegeError as error:
            lines = str(error).splitlines()  # other sections may still be told
        if number:
            print()
        print(section.title)
        for line in lines:
            print(f"  {line}")
    return 0


def _sections(*, full: bool) -> dict[str, Section]:
    # Program types come before helpers, whose probing is the longest: a second or so.
    from tracebee.report.inspect import capabilities as c

    return {
        "system": Section("System", "system_config", c.system, c.system_text),
        "features": Section("Features for tracing", "features", c.feature_rows, c.features_text),
        "limits": Section("Limits of a program", "limits", c.limit_values, c.limits_text),
        "programs": Section("Program types", "program_types", c.program_types, c.types_text),
        "maps": Section("Map types", "map_types", c.map_types, c.types_text),
        "attach": Section("Attach types", "attach_types", c.attach_types, c.numbers_text),
        "links": Section("Link types", "link_types", c.link_types, c.numbers_text),
        "commands": Section("Commands of bpf(2)", "commands", c.commands, c.numbers_text),
        "helpers": Section("Helpers", "helpers", partial(c.helpers, loud=full), c.helpers_text),
        "kfuncs": Section("Kernel functions (kfuncs)", "kfuncs", c.kfuncs, c.kfuncs_text),
    }


def _helpers_of(program_type: str, *, full: bool) -> Section:
    from tracebee.report.inspect import capabilities as c

    find = partial(c.helpers, program_type, loud=full)
    return Section(f"Helpers of {program_type} programs", "helpers", find, c.helpers_text)
