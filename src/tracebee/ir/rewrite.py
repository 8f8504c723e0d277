"""Replacing values throughout a function."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Function, Value


def rewrite(function: Function, replaced: dict[Value, Value]) -> None:
    """Read each value of ``replaced`` where it was used; chains of replacements are followed."""
    if not replaced:
        return
    for value in replaced:
        target = replaced[value]
        while target in replaced:
            target = replaced[target]
        replaced[value] = target
    for block in function.blocks:
        for insn in block.insns:
            args = insn.args
            for number, arg in enumerate(args):
                target = replaced.get(arg)  # type: ignore[assignment]
                if target is not None:
                    args[number] = target
