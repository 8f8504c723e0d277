"""The order of the optimising passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir.value import Function


def optimize(function: Function, after_pass: Callable[[str, Function], None] | None = None) -> None:
    """Run every pass over a function in SSA form."""
