"""Symbols for a running script's output, their code imported when the first address has to be named."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.script import Script
    from tracebee.lang.types import Type
    from tracebee.symbols.frame import Frame
    from tracebee.symbols.symbolizer import Symbolizer


class LazyNames:
    """``symbols.Symbolizer`` when it is needed: most scripts print no addresses.

    :param demangled: C++ and Rust names as written in their source.
    """

    def __init__(self, *, demangled: bool = True) -> None:
        self._demangled = demangled
        self._symbolizer: Symbolizer | None = None

    def _names(self) -> Symbolizer:
        if self._symbolizer is None:
            from tracebee.symbols.symbolizer import Symbolizer

            self._symbolizer = Symbolizer(demangled=self._demangled)
        return self._symbolizer

    def kernel_frame(self, address: int) -> Frame:
        """The kernel symbol that holds an address."""
        return self._names().kernel_frame(address)

    def user_frame(self, address: int, tgid: int, pid: int) -> Frame:
        """The symbol that holds an address of a process."""
        return self._names().user_frame(address, tgid, pid)

    def watcher(self, script: Script) -> Callable[[int], None] | None:
        """What to call with a traced process's id to remember its memory map as it is then; None when
        the script prints no addresses of processes.

        All that takes time is done before it is first called: a process may live for a millisecond.
        """
        return self._names().see if has_user_addresses(script) else None


def has_user_addresses(script: Script) -> bool:
    """Whether a script prints addresses of processes (``ustack``, ``usym``, a uprobe's ``func``)."""
    types = [t for m in script.maps for t in (m.key, m.value) if t is not None]
    return any(map(_has_user, types + [action.layout for action in script.actions]))


def _has_user(t: Type) -> bool:
    inner = [f.type for f in t.fields] + ([t.element] if t.element is not None else [])
    return t.kind in ("ustack", "usym") or any(map(_has_user, inner))
