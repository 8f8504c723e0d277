"""Objects that words describe, opened; and answers printed as the options ask."""

from __future__ import annotations

from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracebee.cli.words import Words
    from tracebee.kernel.link import Link
    from tracebee.kernel.map import Map
    from tracebee.kernel.program import Program


# How each kind of object can be described.
PROGRAM = ("id", "pinned", "tag", "name")
MAP = ("id", "pinned", "name")
LINK = ("id", "pinned")


def program(words: Words) -> Program:
    """The one program described.

    :raises UsageError: the description fits several.
    """
    from tracebee.kernel import choose

    found = choose.programs(*words.choice(*PROGRAM))
    _one(found, "programs")
    return found[0]


def one_map(words: Words) -> Map:
    """The one map described.

    :raises UsageError: the description fits several.
    """
    from tracebee.kernel import choose

    found = choose.maps(*words.choice(*MAP))
    _one(found, "maps")
    return found[0]


def link(words: Words) -> Link:
    """The link described."""
    from tracebee.kernel import choose

    return choose.link(*words.choice(*LINK))


def pin_path(words: Words) -> str:
    """Where to pin: a path of a BPF file system."""
    return words.next("a path in a BPF file system")


def pin(words: Words, thing: Program | Map | Link, path: str) -> None:
    """Give an object a name; the BPF file system is mounted at its usual place if need be.

    :raises PrivilegeError: it may not be mounted. KernelError, UsageError: the name cannot be.
    """
    mount_for(words, path)
    thing.pin(path)


def mount_for(words: Words, path: str) -> None:
    """Mount the BPF file system for a path below its usual place, unless ``--nomount`` forbids it."""
    from tracebee.kernel import mounts

    if path.startswith(f"{mounts.BPFFS}/") and not words.nomount:
        mounts.bpffs()


def show(
    words: Words, records: list[dict[str, Any]], text: Callable[[dict[str, Any]], str], *, one: bool
) -> int:
    """Print records: as JSON, one alone without a list around it, or as text."""
    if words.json:
        return words.print_json(records[0] if one and len(records) == 1 else records)
    for record in records:
        print(text(record))
    return 0


def done(words: Words) -> int:
    """Say in JSON that a command without an answer succeeded, as scripts of bpftool expect."""
    if words.json:
        print("null")
    return 0


def _one(found: list[Any], what: str) -> None:
    if len(found) == 1:
        return
    numbers = ", ".join(str(thing.info().id) for thing in found)
    for thing in found:
        thing.close()
    raise UsageError(f"several {what} fit: {numbers}", hint="name one by its id")
