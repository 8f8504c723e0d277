"""A record of the IR as it goes through the compiler, for ``-d ir``."""

from __future__ import annotations

from tracebee.ir.dump import dump_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Function

FIRST = "lowering"


class Stages:
    """Give ``record`` to the compiler as its ``after_pass``; it keeps what each pass left as text."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        self.texts: dict[str, list[tuple[str, str]]] = {}  # by function: (pass, text) in order

    def record(self, name: str, function: Function) -> None:
        """Keep the function's text after a pass."""
        self.texts.setdefault(function.name, []).append((name, dump_function(function)))

    def final(self) -> str:
        """Every function after its last pass, as code is generated from it."""
        return "\n".join(texts[-1][1] for texts in self.texts.values())

    def every(self) -> str:
        """Every function after each pass that changed it, the passes' names above."""
        parts = []
        for texts in self.texts.values():
            before = ""
            for name, text in texts:
                if text != before:
                    parts.append(f"; after {name}\n{text}")
                before = text
        return "\n".join(parts)
