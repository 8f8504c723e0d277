"""Several objects' types one behind the other, as linking needs them before deduplication."""

from __future__ import annotations

from tracebee.btf.builder import Builder
from tracebee.btf.references import check_references, with_references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.btf.reader import Btf


def concatenate(parts: Iterable[Btf], order: str = "little") -> tuple[bytes, list[int]]:
    """One blob of all parts, none of them split.

    :raises DecodeError: a part refers to types that it does not have.
    :returns: the blob, and for each part what to add to its ids (other than 0).
    """
    builder, shifts = Builder(order), []
    for part in parts:
        check_references(part)
        shift = builder.end_id - 1
        shifts.append(shift)
        for _, record in part.types():
            builder.add(with_references(record, lambda i, shift=shift: i + shift))  # type: ignore[misc]
    return builder.to_bytes(), shifts
