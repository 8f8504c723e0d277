"""The types values have in event records, and the format strings that print them."""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.lang.types import Type, display, tuple_of
from tracebee.lang.unify import COUNTABLE, as_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.lang import ast
    from tracebee.lang.analyse import Analyser
    from tracebee.lang.lower import Gen

# A conversion: flags, width, precision, length, letter; bpftrace's own are r, rx, rh and gr.
CONVERSION = re.compile(
    r"%(?:%|([-+ #0]*)(\*|[0-9]+)?(?:\.([0-9]+))?(hh|h|ll|l|j|z|t)?(rx|rh|r|gr|[a-zA-Z]))"
)

_NUMBERS = frozenset(("int", "bool", "enum", "pointer", "username", "ksym", "timestamp", "strerror", "probe"))
_TEXTS = frozenset(
    {
        "string",
        "ksym",
        "usym",
        "kstack",
        "ustack",
        "inet",
        "username",
        "probe",
        "timestamp",
        "mac",
        "cgroup_path",
        "strerror",
        "enum",
        "bool",
        "tuple",
        "array",
        "record",
    }
)
# letter: the kinds it prints, what an error calls them.
CONVERSIONS: dict[str, tuple[frozenset[str], str]] = {
    **dict.fromkeys("diuoxX", (_NUMBERS, "integer")),
    "c": (frozenset(("int", "bool", "enum")), "integer"),
    "p": (frozenset(("int", "pointer", "ksym", "enum")), "pointer"),
    "s": (_TEXTS, "string"),
    **dict.fromkeys(("r", "rx", "rh"), (frozenset(("buffer",)), "buffer")),
    "gr": (frozenset(("int", "enum")), "integer"),
}


def check_format(a: Analyser, name: str, text: ast.Node, arguments: list[ast.Node]) -> None:
    """Report what of the arguments does not fit the format string."""
    from tracebee.lang import ast as tree

    types = [a.value(argument) for argument in arguments]
    if not isinstance(text, tree.String):
        a.error(f"{name}() expects a format string, a literal", text.span)
        return
    letters = []
    for found in CONVERSION.finditer(text.value):
        if found.group(0) == "%%":
            continue
        if found.group(5) not in CONVERSIONS:
            a.error(f"{name}: Unknown format string token: {found.group(0)}", text.span)
            return
        letters.append(found.group(5))
    bare = CONVERSION.sub("", text.value)
    if "%" in bare:
        a.error(
            f"{name}: Unknown format string token: {bare[bare.index('%') :][:2]}",
            text.span,
            "write %% for a %",
        )
        return
    if len(letters) != len(arguments):
        few = "Not enough" if len(arguments) < len(letters) else "Too many"
        a.error(
            f"{name}: {few} arguments for format string ({len(letters)} expected, {len(arguments)} found)",
            text.span,
        )
        return
    for letter, t, node in zip(letters, types, arguments, strict=True):
        kinds, wanted = CONVERSIONS[letter]
        if t.kind != "unknown" and t.kind not in kinds:
            a.error(
                f"{name}: %{letter} specifier expects a value of type {wanted} ({display(t)} supplied)",
                node.span,
                _hint(letter, t),
            )


def _hint(letter: str, t: Type) -> str | None:
    if letter == "s" and t.kind == "pointer":
        return "read the string it points at with str()"
    if letter == "s" and t.kind == "int":
        return "print an integer with %d, %u or %x; an address's string with str()"
    if letter == "s" and t.kind == "buffer":
        return "print a buffer with %r"
    return "print a string with %s" if t.kind == "string" else None


def sent(g: Gen, t: Type) -> Type:
    """The type with which a value travels: complete for printing, and free of what printing ignores."""
    return printable(g.analyser, t)


def printable(a: Analyser, t: Type) -> Type:
    """A type as user space needs it: records with their fields, enumerations with their names."""
    if t.kind in COUNTABLE:
        return as_integer(t)
    if t.kind == "int":
        return t._replace(name="")
    if t.kind == "pointer":
        return t._replace(element=None)
    if t.kind == "enum":
        from tracebee.lang.types import TypeField

        fields = tuple(TypeField(name, Type("none"), value) for value, name in a.records.enumerators(t))
        # A built script asks the running kernel for the names of what is the kernel's.
        return t._replace(number=int(a.options.portable and t.number > 0), fields=fields)
    if t.kind == "tuple":
        named = bool(t.fields) and t.fields[0].name != "0"
        return tuple_of(
            [printable(a, f.type) for f in t.fields], [f.name for f in t.fields] if named else None
        )
    if t.kind == "record":
        whole = a.records.complete(a.records.resolve(t))
        if not whole.fields:
            raise Diagnostic(f"'{display(t)}' has no known fields to print")
        return whole._replace(number=0)
    if t.kind == "array" and t.element is not None:
        return t._replace(element=printable(a, t.element))
    return t
