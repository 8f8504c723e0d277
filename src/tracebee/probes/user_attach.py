"""Attaching to user code, for uprobe, uretprobe and usdt: in bulk by uprobe.multi, else one by one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.lang.script import Target


def attach_user(program: Any, targets: Sequence[Target], session: Any, *, returns: bool) -> Iterator[Any]:
    """Attach to every target: specs have ``path``, ``offset`` (in the file) and perhaps ``ref``, the
    file offset of a reference counter that the kernel raises while the probe is attached.
    """
    if not session.is_multi:
        for target in targets:
            yield from session.uprobe(
                program,
                target.spec["path"],
                target.spec["offset"],
                returns=returns,
                ref=target.spec.get("ref", 0),
                cookie=target.cookie,
                what=target.probe,
            )
        return
    by_path: dict[str, list[Target]] = {}
    for target in targets:
        by_path.setdefault(target.spec["path"], []).append(target)
    for path, same in by_path.items():
        yield session.uprobe_multi(
            program,
            path,
            [t.spec["offset"] for t in same],
            refs=[t.spec.get("ref", 0) for t in same],
            cookies=[t.cookie for t in same],
            returns=returns,
        )
