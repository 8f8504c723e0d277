"""The script's own C definitions: structs, unions, enums and typedefs, with C's layout (LP64).

Members of anonymous structs and unions stand among their parent's. An enumerator is a field of its
enum with its value as ``offset``. Source: C11 6.7, and the System V and AArch64 psABIs for layout,
which agree on everything here.
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.c_constants import evaluate
from tracebee.lang.c_declarations import Reader
from tracebee.lang.preprocessor import Preprocessor
from tracebee.lang.records import INTEGERS
from tracebee.lang.types import INT64, UINT64, Type, alignment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Definitions:
    """The types and constants a script defines.

    :param defines: the script's object macros.
    :param lookup: a type the script does not define, by its C name (the kernel's), or None.
    """

    def __init__(
        self,
        defines: Mapping[str, str] | None = None,
        lookup: Callable[[str], Type | None] | None = None,
    ) -> None:
        self.defines = {} if defines is None else defines
        self.lookup = lookup
        self._types: dict[str, Type] = {}
        self._alignments: dict[str, int] = {}
        self._constants: dict[str, tuple[int, Type]] = {}

    def type(self, name: str) -> Type | None:
        """A type by its C name (``struct s``, ``enum e``, a typedef's name), None when not defined here."""
        found = self._types.get(name)
        if found is None and name.startswith(("struct ", "union ", "enum ")):
            # Scripts say "struct x" for a typedef x of an anonymous struct, too.
            plain = self._types.get(name.split(" ", 1)[1])
            found = plain if plain is not None and plain.kind in ("record", "enum") else None
        return found

    def constant(self, name: str) -> tuple[int, Type] | None:
        """Value and type of an enumerator, or of an object macro that is a number."""
        found = self._constants.get(name)
        if found is not None or name not in self.defines:
            return found
        try:
            value = evaluate(self.defines[name], self.number, self.size_of, self.defines)
        except ValueError:
            return None
        return value, INT64 if value < 1 << 63 else UINT64

    def names(self) -> list[str]:
        """All type names defined."""
        return list(self._types)

    def add(self, definition: ast.CDefinition) -> None:
        """Take in one definition of the preamble.

        :raises Diagnostic: it is not valid C, or uses a type that is not known; with its place.
        """
        if definition.kind in ("struct", "union", "enum", "typedef"):
            Reader(self, definition).read()

    def number(self, name: str) -> int | None:
        """The value of an enumerator, None when there is none."""
        found = self._constants.get(name)
        return None if found is None else found[0]

    def size_of(self, node: ast.Node) -> int | None:
        """The bytes of a type as written, None when it is not known."""
        if not isinstance(node, ast.TypeName):
            return None
        if node.pointers:
            size = 8
        else:
            found = self.find(node.name)
            if found is None:
                return None
            size = found.size
        for count in node.array:
            size *= count or 0
        return size

    def find(self, name: str) -> Type | None:
        """A type from here, C itself or ``lookup``."""
        found = self.type(name) or INTEGERS.get(name)
        if found is None and self.lookup is not None:
            found = self.lookup(name)
        return found

    def alignment(self, t: Type, name: str) -> int:
        """The alignment of a type that was found by ``name``; records may be packed or aligned by hand."""
        found = self._alignments.get(name)
        if found is not None:
            return found
        if t.kind == "record":  # the kernel's: its size is a multiple of its alignment
            return min(t.size & -t.size, 8) or 1
        return max(1, alignment(t))

    def define(self, name: str, t: Type, align: int | None = None) -> None:
        """Enter a type under its C name."""
        self._types[name] = t
        if align is not None:
            self._alignments[name] = align

    def enumerator(self, name: str, value: int, t: Type) -> None:
        """Enter an enumerator."""
        self._constants[name] = (value, t)


def collect(
    program: ast.Program,
    defines: Mapping[str, str] | None = None,
    lookup: Callable[[str], Type | None] | None = None,
) -> tuple[Definitions, list[Diagnostic]]:
    """All C definitions of a script, and the errors in them."""
    macros = dict(defines or {})
    preprocessor = Preprocessor(macros)
    definitions = Definitions(macros, lookup)
    errors = []
    for node in program.of(ast.CDefinition):
        try:
            if node.kind in ("define", "undef"):
                preprocessor.directive(node.text)
            definitions.add(node)
        except Diagnostic as error:
            errors.append(error)
    return definitions, errors
