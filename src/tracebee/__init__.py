"""tracebee: eBPF tracing for Linux in Python, from the bpftrace language to the kernel.

The names of ``__all__`` are the library; each is imported when it is first used, because the command line
needs few of them. docs/library.md describes them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.api.attachment import Attachment as Attachment
    from tracebee.api.direct import BPF as BPF
    from tracebee.api.linking import link_objects as link_objects
    from tracebee.api.objects import Object as Object
    from tracebee.api.script import Event as Event
    from tracebee.api.script import Result as Result
    from tracebee.api.script import Script as Script
    from tracebee.api.script import run as run
    from tracebee.api.table import Table as Table
    from tracebee.errors import (
        Diagnostic,
        KernelError,
        PrivilegeError,
        SourceError,
        SymbolError,
        TracebeeError,
        UnsupportedError,
        VerifierError,
    )

__version__ = "0.1.0"

__all__ = [
    "BPF",
    "Attachment",
    "Diagnostic",
    "Event",
    "KernelError",
    "Object",
    "PrivilegeError",
    "Result",
    "Script",
    "SourceError",
    "SymbolError",
    "Table",
    "TracebeeError",
    "UnsupportedError",
    "VerifierError",
    "__version__",
    "link_objects",
    "run",
]

_MODULES = {
    "BPF": "api.direct",
    "Attachment": "api.attachment",
    "Object": "api.objects",
    "link_objects": "api.linking",
    "Event": "api.script",
    "Result": "api.script",
    "Script": "api.script",
    "run": "api.script",
    "Table": "api.table",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
