"""Stacks as text, in the modes of bpftrace's ``kstack`` and ``ustack``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.symbols.frame import Frame


def hexadecimal(address: int) -> str:
    """An address without a symbol, as bpftrace prints it: ``0x1f``, but ``0`` for zero."""
    return f"{address:#x}" if address else "0"


def line(frame: Frame, *, show_module: bool) -> str:
    """``name+offset``, or the address; in perf's mode the file of a user frame goes with it."""
    text = f"{frame.name}+{frame.offset}" if frame.name else hexadecimal(frame.address)
    return f"{text} ({frame.module or '[unknown]'})" if show_module else text


def render(frames: Iterable[Frame], mode: str, indent: int, *, user: bool) -> str:
    """A stack as bpftrace prints it: a newline, then one line for each frame, innermost first.

    :param mode: ``bpftrace`` (name+offset), ``perf`` (address too, and the file of a user frame)
        or ``raw`` (addresses alone).
    :param indent: spaces before a line of bpftrace's mode: 4 in a map's key, 8 elsewhere.
    """
    shape = _MODES[mode or "bpftrace"]
    return "\n" + "".join([shape(frame, " " * indent, user) + "\n" for frame in frames])


def _plain(frame: Frame, pad: str, _user: bool) -> str:
    return pad + line(frame, show_module=False)


def _perf(frame: Frame, _pad: str, user: bool) -> str:
    return f"\t{frame.address:x} {line(frame, show_module=user)}"


def _raw(frame: Frame, _pad: str, _user: bool) -> str:
    return f"{frame.address:x}"


_MODES: dict[str, Callable[[Frame, str, bool], str]] = {"bpftrace": _plain, "perf": _perf, "raw": _raw}
