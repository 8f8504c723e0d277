"""Which links attach a program to many functions at once: kprobe.multi, uprobe.multi."""

from __future__ import annotations

from tracebee.uapi import BPF_TRACE_KPROBE_MULTI, BPF_TRACE_UPROBE_MULTI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.probes.machine import Machine


def attach_type(kind: str, specs: Sequence[dict[str, Any]], machine: Machine) -> int:
    """The attach type to load a program with for such a link; 0 where its targets are attached one by one.

    The program is the same either way: its context is the registers, its cookie comes from one helper.
    """
    if kind in ("uprobe", "uretprobe", "usdt"):
        return BPF_TRACE_UPROBE_MULTI if machine.has("uprobe_multi") else 0
    if kind in ("kprobe", "kretprobe") and len(specs) > 1 and all(set(s) == {"function"} for s in specs):
        return BPF_TRACE_KPROBE_MULTI if machine.has("kprobe_multi") else 0
    return 0
