"""From a module in IR form to functions of the BPF object."""

from __future__ import annotations

from tracebee.errors import UnsupportedError
from tracebee.ir.emit import Code, emit
from tracebee.ir.frame import Frame, place_objects
from tracebee.ir.legalize import legalize
from tracebee.ir.mem2reg import mem2reg
from tracebee.ir.optimize import optimize
from tracebee.ir.regalloc import allocate
from tracebee.ir.returns import duplicate_returns
from tracebee.ir.scratch import add_scratch_lookup
from tracebee.isa.insn import MAX_STACK
from tracebee.obj import model
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir.value import Function, Module


# Bytes of a frame that objects leave to spilled values.
_SPILL_ROOM = 128


class Compiled(NamedTuple):
    """What :func:`compile_module` makes.

    ``functions`` are in the module's order. When ``scratch_entries`` is not 0 the object needs the
    scratch map: a per-CPU array of ``scratch_entries`` elements of ``scratch_size`` bytes.
    """

    functions: tuple[model.Function, ...]
    scratch_size: int
    scratch_entries: int


def compile_module(
    module: Module,
    *,
    cpu_version: int | Callable[[], int] = 3,
    scratch_map: str = "scratch",
    after_pass: Callable[[str, Function], None] | None = None,
) -> Compiled:
    """Optimise a module's functions (in place) and generate their code.

    :param cpu_version: 3, or 4 for kernels from 6.6 on (sign-extending moves and loads, signed division);
        a function is called only if a program would use it.
    :param scratch_map: name of the per-CPU array that holds objects too large for the stack.
    :param after_pass: called with a pass's name and the function as the pass left it, to check or dump.
    :raises UnsupportedError: the stack frames of a call chain do not fit 512 bytes.
    """
    text = module.source.text.split("\n")
    version = cpu_version if callable(cpu_version) else lambda: cpu_version
    depths: dict[Function, int] = {}
    compiled: dict[Function, model.Function] = {}
    scratch_size = scratch_entries = 0
    for function in _callees_first(module):
        below = max((depths.get(c, 0) for c in _callees(function)), default=0)
        limit = MAX_STACK - below
        code, frame = _compile(function, version, limit, scratch_map, scratch_entries, after_pass)
        depths[function] = below + _rounded(frame.stack_size + frame.spill_size)
        if frame.scratch_size:
            scratch_size = max(scratch_size, frame.scratch_size)
            scratch_entries += 1
        compiled[function] = model.Function(
            function.name,
            tuple(code.insns),
            tuple(code.relocs),
            code.lines(module.source.name, text),
            args=len(function.params),
            is_global=function.is_global,
        )
    return Compiled(tuple(compiled[f] for f in module.functions), scratch_size, scratch_entries)


def _compile(
    function: Function,
    cpu_version: Callable[[], int],
    limit: int,
    scratch_map: str,
    scratch_index: int,
    after_pass: Callable[[str, Function], None] | None,
) -> tuple[Code, Frame]:
    if after_pass is not None:
        after_pass("lowering", function)
    mem2reg(function)
    if after_pass is not None:
        after_pass("mem2reg", function)
    optimize(function, after_pass)
    # Room is left for spilled values, which are not known yet.
    frame = place_objects(function, limit - _SPILL_ROOM)
    if frame.scratch:
        add_scratch_lookup(function, frame, scratch_map, scratch_index)
    duplicate_returns(function)
    legalize(function, frame, cpu_version)
    allocation = allocate(function)
    code = emit(function, frame, allocation, _helper_number, cpu_version)
    frame.spill_size = code.spill_size
    if frame.stack_size + frame.spill_size > limit:
        raise UnsupportedError(
            f"{function.name}: needs {frame.stack_size + frame.spill_size} bytes of stack, "
            f"{limit} of {MAX_STACK} are left",
            hint="use fewer or smaller variables in one probe",
        )
    return code, frame


def _rounded(size: int) -> int:
    """Bytes of stack the verifier counts for a frame (kernel: round_up_stack_depth, interpreter)."""
    return -(-max(size, 1) // 32) * 32


def _callees(function: Function) -> list[Function]:
    found = []
    for block in function.blocks:
        for insn in block.insns:
            if insn.op == "call":
                found.append(insn.aux)
            found.extend(a.aux for a in insn.args if a.op == "func_ref")
    return found


def _callees_first(module: Module) -> list[Function]:
    """Functions, each after those it calls, so that their stack frames are known."""
    order: list[Function] = []
    seen: set[Function] = set()

    def visit(function: Function) -> None:
        if function not in seen:
            seen.add(function)
            for callee in _callees(function):
                visit(callee)
            order.append(function)

    for function in module.functions:
        visit(function)
    return order


def _helper_number(name: str) -> int:
    from tracebee.isa.helpers import BY_NAME

    return BY_NAME[name].number
