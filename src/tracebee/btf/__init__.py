"""The type format of BPF: read, query, build, print as C, CO-RE matching.

Source: Linux ``Documentation/bpf/btf.rst`` and ``include/uapi/linux/btf.h``. Nothing is imported
until it is asked for: a script without kernel types should not pay for the reader.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.reader import Btf as Btf
    from tracebee.btf.types import Type as Type

__all__ = ["Btf", "Type"]


def __getattr__(name: str) -> object:
    if name == "Btf":
        from tracebee.btf.reader import Btf

        return Btf
    if name == "Type":
        from tracebee.btf.types import Type

        return Type
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
