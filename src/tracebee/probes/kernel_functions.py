"""Kernel functions by name: which may be traced, and what compilers have made of them."""

from __future__ import annotations

from tracebee.kernel import tracefs
from tracebee.kernel.kallsyms import PATH

# Symbols of code that is no function: padding before functions, static call trampolines.
_NOT_FUNCTIONS = ("__pfx_", "__SCT__")
# What GCC and LLVM append to a copy of a function whose arguments are not what the source says.
_COPIES = (".isra.", ".constprop.", ".part.")


def traceable() -> dict[str, str]:
    """Functions that ftrace can trace, each with its module (empty for the kernel itself), in its order.

    Without that list (no function tracing), every function that kallsyms has.
    """
    return dict(tracefs.traceable_functions()) or _from_kallsyms()


def _from_kallsyms() -> dict[str, str]:
    found = {}
    with open(PATH, encoding="ascii", errors="replace") as file:
        for line in file:
            _, kind, rest = line.split(" ", 2)
            if kind in "tTwW":
                name, _, module = rest.rstrip("\n").partition("\t")
                if not name.startswith(_NOT_FUNCTIONS):
                    found[name] = module.strip("[]")
    return found


def copies(name: str) -> list[str]:
    """The compiler's changed copies of a function: ``do_x.isra.0``."""
    with open(PATH, "rb", buffering=0) as file:
        data = file.read()
    wanted = name.encode() + b"."
    starts = tuple((name + suffix).encode() for suffix in _COPIES)
    found = []
    at = data.find(b" " + wanted)
    while at >= 0:
        end = data.find(b"\n", at)
        full = data[at + 1 : end].partition(b"\t")[0]
        if full.startswith(starts):
            found.append(full.decode(errors="replace"))
        at = data.find(b" " + wanted, end)
    return found
