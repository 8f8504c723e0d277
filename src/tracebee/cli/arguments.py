"""bpftrace's command line, parsed by hand: argparse would be a tenth of the time to start.

Options are rows of a table and may stand before or behind the script. Other words behind it are its
positional parameters; so is everything after ``--``, except ``--name=value``, a named parameter.
"""

from __future__ import annotations

from tracebee.errors import UsageError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option(NamedTuple):
    """``takes`` names the value in the help, empty for a switch; ``repeats`` collects values in a list."""

    names: tuple[str, ...]
    key: str
    takes: str
    help: str
    repeats: bool = False


OPTIONS = (
    Option(("-e",), "program", "PROGRAM", "run this script"),
    Option(("-p",), "pid", "PID", "trace this process, and end with it"),
    Option(("-c",), "command", "COMMAND", "run this command, trace it, and end with it"),
    Option(("-l",), "list", "", "list probes; a pattern may follow"),
    Option(("-f",), "format", "FORMAT", "output format: text or json; folded stacks, or svg (a flame graph)"),
    Option(("-o",), "output", "FILE", "write the output to a file"),
    Option(("-B",), "buffering", "MODE", "output buffering: line, full or none"),
    Option(("-v", "--verbose"), "verbose", "", "say more: the verifier's logs, listed probes' arguments"),
    Option(("-q", "--quiet"), "quiet", "", "print nothing but the script's own output"),
    Option(("-k",), "checks", "", "report failed helper calls", repeats=True),
    Option(("-kk",), "all_checks", "", "report failed helper calls, reads of memory among them"),
    Option(("-d", "--debug"), "dump", "STAGE", "print a stage and stop: ast, types, ir, asm"),
    Option(("--engine",), "engine", "ENGINE", "where programs run: auto, kernel or user"),
    Option(("--pin",), "pin", "NAME", "leave the script running in the kernel; see tracebee attach"),
    Option(("--unsafe",), "unsafe", "", "allow functions that change things: system, signal"),
    Option(("--include",), "include", "FILE", "read this header before the script", repeats=True),
    Option(("-I",), "include_dir", "DIR", "look for headers here too", repeats=True),
    Option(("--btf",), "btf", "FILE", "take the kernel's types from this file"),
    Option(("--no-warnings",), "no_warnings", "", "print no warnings"),
    Option(("--no-feature",), "no_feature", "FEATURES", "do without these kernel features", repeats=True),
    Option(
        ("--usdt-file-activation",), "usdt_file_activation", "", "accepted: semaphores need no search here"
    ),
    Option(("--dry-run",), "dry_run", "", "compile, load and attach, then stop"),
    Option(("--info",), "info", "", "print what this kernel can do"),
    Option(("-V", "--version"), "version", "", "print the version"),
    Option(("-h", "--help"), "help", "", "print this help"),
)
_SUBCOMMANDS = (
    ("run, build, list", "scripts in object files: run, write; probes: list"),
    ("attach, detach", "scripts that --pin has left in the kernel"),
    ("prog, map, link, pin", "what is loaded, and what holds it"),
    ("cgroup, net, perf", "what is attached to groups, devices, events"),
    ("struct_ops, iter", "kernel structs made of programs; iterators"),
    ("btf, gen", "type information, object files"),
    ("feature", "what this kernel can do"),
    ("batch", "many of these in one file"),
    ("vm", "programs in user space: run, test, verify"),
)
_BY_NAME = {name: option for option in OPTIONS for name in option.names}


class Arguments:
    """A parsed command line: options by key in ``values``, and what follows them."""

    def __init__(self) -> None:
        self.values: dict[str, str | bool | list[str]] = {}
        self.script: str | None = None  # path, "-" for standard input
        self.parameters: list[str] = []
        self.named: dict[str, str] = {}

    def flag(self, key: str) -> bool:
        """Whether a switch was given."""
        return bool(self.values.get(key))

    def text(self, key: str) -> str | None:
        """An option's value."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def many(self, key: str) -> list[str]:
        """The values of an option that may be repeated."""
        value = self.values.get(key)
        return value if isinstance(value, list) else []


def parse(argv: Sequence[str]) -> Arguments:
    """Parse a command line (without the command's name).

    :raises UsageError: an unknown option, or one without its value.
    """
    found = Arguments()
    rest = list(argv)
    words: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word == "-" or not word.startswith("-"):
            words.append(word)
        elif words and not _is_option(word):
            words.append(word)  # a script's own parameter, such as a negative number
        else:
            _option(word, rest, found)
    if words and "program" not in found.values and "list" not in found.values:
        found.script = words.pop(0)
    found.parameters = words
    _script_arguments(rest, found)
    return found


def _is_option(word: str) -> bool:
    return word.partition("=")[0] in _BY_NAME or (not word.startswith("--") and word[:2] in _BY_NAME)


def _option(word: str, rest: list[str], found: Arguments) -> None:
    name, has_value, value = word.partition("=") if word.startswith("--") else (word, "", "")
    option = _BY_NAME.get(name)
    if option is None and not word.startswith("--") and len(word) > 2:
        # Short options run together, "-lv", or with their value, "-p42".
        first = _BY_NAME.get(word[:2])
        if first is not None and first.takes:
            _store(first, word[2:].removeprefix("="), found)
            return
        if first is not None:
            _store(first, True, found)
            _option(f"-{word[2:]}", rest, found)
            return
    if option is None:
        raise UsageError(f"unknown option '{word}'", hint="tracebee --help lists the options")
    if not option.takes:
        if has_value:
            raise UsageError(f"'{name}' takes no value")
        _store(option, True, found)
        return
    if not has_value:
        if not rest:
            raise UsageError(f"'{name}' needs a value: {option.takes}")
        value = rest.pop(0)
    _store(option, value, found)


def _store(option: Option, value: str | bool, found: Arguments) -> None:
    if option.repeats:
        known = found.values.setdefault(option.key, [])
        assert isinstance(known, list)
        known.append(str(value))
    elif option.key in found.values and option.takes:
        raise UsageError(f"'{option.names[0]}' is given twice")
    else:
        found.values[option.key] = value


def _script_arguments(rest: list[str], found: Arguments) -> None:
    for word in rest:
        if word.startswith("--") and len(word) > 2:
            name, _, value = word[2:].partition("=")
            found.named[name] = value or "true"
        else:
            found.parameters.append(word)


def usage() -> str:
    """The help text."""
    lines = [
        "usage: tracebee [options] FILE [parameters]",
        "       tracebee [options] -e 'PROGRAM' [parameters]",
        "       tracebee TOOL [parameters]",
        "       tracebee SUBCOMMAND ...",
        "",
    ]
    for option in OPTIONS:
        left = ", ".join(option.names) + (f" {option.takes}" if option.takes else "")
        lines.append(f"  {left:<28}{option.help}")
    lines += ["", "subcommands, each with --help:"]
    lines += [f"  {names:<28}{about}" for names, about in _SUBCOMMANDS]
    return "\n".join(lines)
