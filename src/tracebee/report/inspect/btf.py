"""BTF objects: what ``btf show`` says of each, and their types."""

from __future__ import annotations

from tracebee.btf.reader import Btf
from tracebee.kernel.btf import Btf as KernelBtf
from tracebee.report.inspect.output import holder_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from tracebee.kernel.btf import BtfInfo
    from tracebee.kernel.holders import Holder


def btf_of(number: int) -> Btf:
    """The types of a BTF object by its id; a module's come with vmlinux's below them.

    :raises KernelError: no BTF object has this id.
    """
    with KernelBtf.by_id(number) as held:
        info = held.info()
        if info.is_kernel and info.name == "vmlinux":
            from tracebee.btf.opening import open_vmlinux

            return open_vmlinux()
        base = None
        if info.is_kernel:
            from tracebee.btf.opening import open_vmlinux

            base = open_vmlinux()
        return Btf.from_bytes(held.data(), base, info.name or "BTF")


def users_of_btf(users: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Ids of the objects that use each BTF, from pairs of (object's id, its BTF's id or 0)."""
    found: dict[int, list[int]] = {}
    for number, btf_id in users:
        if btf_id:
            found.setdefault(btf_id, []).append(number)
    return found


def btf_record(
    info: BtfInfo, prog_ids: Sequence[int], map_ids: Sequence[int], holders: Sequence[Holder] = ()
) -> dict[str, Any]:
    """A BTF object with bpftool's JSON keys."""
    record: dict[str, Any] = {
        "id": info.id,
        "size": info.size,
        "prog_ids": list(prog_ids),
        "map_ids": list(map_ids),
    }
    if holders:
        record["pids"] = [holder._asdict() for holder in holders]
    record["kernel"] = info.is_kernel
    if info.name:
        record["name"] = info.name
    return record


def btf_text(record: dict[str, Any]) -> str:
    """A record's line, and a second for the processes that hold it."""
    name = f"[{record['name']}]" if record["kernel"] else record.get("name", "<anon>")
    line = f"{record['id']}: name {name}  size {record['size']}B"
    for key in ("prog_ids", "map_ids"):
        if record[key]:
            line += f"  {key} " + ",".join(map(str, record[key]))
    return "\n\t".join([line, *holder_lines(record)])
