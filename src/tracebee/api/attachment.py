"""What attaching gives: links that are held, pinned, or closed to detach."""

from __future__ import annotations

import os

from tracebee.errors import UnsupportedError
from tracebee.probes.session import close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self


class Attachment:
    """A program attached somewhere, until ``close`` or the end of a ``with`` block.

    ``probes`` are the names of what it is attached to.
    """

    def __init__(self, probes: Sequence[str], links: list[Any]) -> None:
        self.probes = tuple(probes)
        self._links = links

    @property
    def links(self) -> list[Any]:
        """What it is made of, ``tracebee.kernel.link.Link`` for the most part."""
        from tracebee.engine.kernel.sections import links_of

        return links_of(self._links)

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Keep it attached under a name in bpffs, also without this process.

        Of several links the further ones have ``_1``, ``_2``... behind the name.

        :raises UnsupportedError: it is attached in a way that ends with the process. KernelError: the name
            is taken, or not in bpffs.
        """
        for number, link in enumerate(self.links):
            if not hasattr(link, "pin"):
                raise UnsupportedError(
                    f"what '{', '.join(self.probes)}' is attached by is no link, and cannot be pinned",
                    hint="Linux 6.10 links socket maps; SEC('.struct_ops.link') has a link",
                )
            link.pin(f"{os.fspath(path)}_{number}" if number else os.fspath(path))
        for whole in self._links:
            if hasattr(whole, "stay"):
                whole.stay()

    def close(self) -> None:
        """Detach; what is pinned stays attached."""
        links, self._links = self._links, []
        close_all(links)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
