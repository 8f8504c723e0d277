"""``-d STAGE``: what the compiler has made at a stage: the tree, the instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.lang.script import Script
    from tracebee.source import Source

STAGES = ("ast", "asm")


def dump(source: Source, script: Script, stages: str) -> int:
    """Print the stages named, separated by commas; ``all`` is every one.

    :raises UsageError: there is no such stage.
    """
    wanted = STAGES if stages == "all" else tuple(stages.split(","))
    for stage in wanted:
        if stage == "ast":
            from tracebee.lang.format import dump as dump_tree
            from tracebee.lang.frontend import load

            print(dump_tree(load(source).program))
        elif stage == "asm":
            _print_code(script)
        else:
            raise UsageError(f"no stage is called '{stage}'", hint=f"stages: {', '.join(STAGES)}")
    return 0


def _print_code(script: Script) -> None:
    from tracebee.isa.disasm import listing

    for function in (*(p.function for p in script.object.programs), *script.object.functions):
        print(f"{function.name}:")
        print(listing(function.insns))
