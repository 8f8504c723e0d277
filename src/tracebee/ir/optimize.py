"""The order of the optimising passes."""

from __future__ import annotations

from tracebee.ir.branches import simplify_branches
from tracebee.ir.dce import eliminate_dead
from tracebee.ir.gvn import number_values
from tracebee.ir.objects import merge_objects
from tracebee.ir.selects import make_selects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir.value import Function

    AfterPass = Callable[[str, Function], None]

_ROUNDS = 3


def optimize(function: Function, after_pass: AfterPass | None = None) -> None:
    """Run every pass over a function in SSA form.

    Values that are found out decide branches, and decided branches let more be found out: the two
    passes take turns, a bounded number of times.
    """

    def done(name: str) -> None:
        if after_pass is not None:
            after_pass(name, function)

    for _ in range(_ROUNDS):
        number_values(function)
        done("gvn")
        changed = simplify_branches(function)
        done("branches")
        if not changed:
            break
    make_selects(function)
    done("selects")
    merge_objects(function)
    done("objects")
    eliminate_dead(function)
    done("dce")
