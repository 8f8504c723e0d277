"""``tracebee feature``: what the running kernel offers to BPF programs, found by trying and in its types."""

from __future__ import annotations

from tracebee.cli.words import Words
from tracebee.errors import PrivilegeError, UsageError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

USAGE = """\
usage: tracebee feature [probe] [SECTION...] [helpers PROGRAM_TYPE]
  SECTION := { system | features | programs | maps | helpers | kfuncs | attach | links | commands | limits }
  options: -j JSON, -p indented JSON"""


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
    words.accept("probe")
    sections = _sections()
    chosen: dict[str, Section] = {}
    while words:
        name = words.next("a section")
        if name not in sections:
            raise UsageError(f"there is no section '{name}'", hint=words.hint)
        chosen[name] = sections[name]
        if name == "helpers" and words and words.peek() not in sections:
            chosen[name] = _helpers_of(words.next("a program type"))
    return _print(words, list((chosen or sections).values()))


def _print(words: Words, sections: list[Section]) -> int:
    from tracebee.report.inspect import capabilities

    if words.json:
        from tracebee.report.inspect.output import json_text

        answer = {section.key: section.find() for section in sections}
        if "features" in answer:
            answer["misc"] = capabilities.misc(answer["features"])
        if "system_config" in answer:
            answer["syscall_config"] = {"have_bpf_syscall": True}
        print(json_text(answer, pretty=words.pretty))
        return 0
    for number, section in enumerate(sections):
        if number:
            print()
        print(section.title)
        try:
            lines = section.text(section.find())
        except PrivilegeError as error:
            lines = str(error).splitlines()  # other sections may still be told
        for line in lines:
            print(f"  {line}")
    return 0


def _sections() -> dict[str, Section]:
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
        "helpers": Section("Helpers", "helpers", c.helpers, c.helpers_text),
        "kfuncs": Section("Kernel functions (kfuncs)", "kfuncs", c.kfuncs, c.kfuncs_text),
    }


def _helpers_of(program_type: str) -> Section:
    from tracebee.report.inspect import capabilities as c

    return Section(
        f"Helpers of {program_type} programs", "helpers", lambda: c.helpers(program_type), c.helpers_text
    )
