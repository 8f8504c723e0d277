"""``-d STAGE``: what the compiler has made at a stage: the tree, the IR, the instructions."""

from __future__ import annotations

from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir import Function
    from tracebee.lang.script import Script
    from tracebee.source import Source

    Compile = Callable[[Callable[[str, Function], None]], Script]

# ir is what code is generated from, passes what each pass over it left, cfg control flow in DOT.
STAGES = ("ast", "ir", "asm", "passes", "cfg")


def dump(source: Source, compile_script: Compile, stages: str) -> int:
    """Print the stages named, separated by commas; ``all`` is the tree, the IR and the instructions.

    :param compile_script: compiles the script, calling what it is given after each pass over the IR.
    :raises UsageError: there is no such stage.
    """
    from tracebee.ir.stages import Stages

    record = Stages()
    script = compile_script(record.record)
    wanted = STAGES[:3] if stages == "all" else tuple(stages.split(","))
    for stage in wanted:
        if stage == "ast":
            from tracebee.lang.format import dump as dump_tree
            from tracebee.lang.frontend import load

            print(dump_tree(load(source).program))
        elif stage == "ir":
            print(record.final())
        elif stage == "passes":
            print(record.every())
        elif stage == "asm":
            _print_code(script)
        elif stage == "cfg":
            _print_graphs(script)
        else:
            raise UsageError(f"no stage is called '{stage}'", hint=f"stages: {', '.join(STAGES)}")
    return 0


def _print_code(script: Script) -> None:
    from tracebee.isa.disasm import listing

    for function in (*(p.function for p in script.object.programs), *script.object.functions):
        print(f"{function.name}:")
        print(listing(function.insns))


def _print_graphs(script: Script) -> None:
    from tracebee.isa.dot import code_dot

    for function in (*(p.function for p in script.object.programs), *script.object.functions):
        print(code_dot(function.name, function.insns))
