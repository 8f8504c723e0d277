"""All elements of a map in few calls: ``BPF_MAP_LOOKUP_BATCH`` and ``BPF_MAP_LOOKUP_AND_DELETE_BATCH``."""

from __future__ import annotations

from tracebee.kernel.attr import MAP_BATCH
from tracebee.kernel.bpf import try_bpf
from tracebee.kernel.syscall import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.map import Map

_ENOENT, _EINVAL, _ENOSPC, _ENOTSUPP = -2, -22, -28, -524
_BATCH = 4096  # elements a call asks for at first


def read_batches(table: Map, command: int) -> list[tuple[bytes, bytes]] | None:
    """All keys and values; None when maps of this type have no such command.

    :param command: one of the two; the second empties the map.
    :raises KernelError, PrivilegeError: the call failed.
    """
    key_size, value_size = table.key_size, table.value_bytes
    count = min(table.max_entries or 1, _BATCH)
    # The cursor is a hash's bucket number or an array's key; 4 bytes at least are written.
    cursors = bytearray(max(4, key_size)), bytearray(max(4, key_size))
    first = True
    pairs: list[tuple[bytes, bytes]] = []
    while True:
        keys, values = bytearray(key_size * count), bytearray(value_size * count)
        attr = MAP_BATCH.pack(
            in_batch=0 if first else address(cursors[0]),
            out_batch=address(cursors[1]),
            keys=address(keys),
            values=address(values),
            count=count,
            map_fd=table.fd,
        )
        result = try_bpf(command, attr)
        if result == _ENOSPC:  # one bucket of the hash holds more than fits
            count *= 2
            continue
        if result < 0 and result != _ENOENT:
            if first and result in (_ENOTSUPP, _EINVAL):
                return None
            from tracebee.kernel.explain import bpf_error

            raise bpf_error(command, -result, table.what)
        got = MAP_BATCH.get(attr, "count")
        pairs.extend(
            (
                bytes(keys[i * key_size : (i + 1) * key_size]),
                bytes(values[i * value_size : (i + 1) * value_size]),
            )
            for i in range(got)
        )
        if result == _ENOENT:
            return pairs
        first = False
        cursors = cursors[1], cursors[0]
