"""From what a script calls a program or library to the file the kernel is to be given."""

from __future__ import annotations

import os

from tracebee.errors import Diagnostic
from tracebee.kernel import procmaps
from tracebee.probes.ldcache import find_library
from tracebee.probes.machine import is_wild

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.probes.machine import Machine


def find_binaries(name: str, machine: Machine) -> list[str]:
    """Paths for one spelling: a path (with wildcards), a program on PATH, a library's name.

    An empty name is the program of ``-p`` or ``-c``. With ``-p``, names are looked up as that process
    sees its files, and a library it has mapped comes before the one that the linker would find now.

    :raises Diagnostic: nothing is called so.
    """
    root = machine.root
    if not name:
        return [_own_program(machine)]
    if is_wild(name):
        import glob  # only for patterns

        found = sorted(p for p in glob.glob(root + name) if os.path.isfile(p))
        if not found:
            raise Diagnostic(f"no file matches '{name}'")
        return found
    if "/" in name:
        # A path below /proc leads to another process's files already.
        path = name if not name.startswith("/") or name.startswith("/proc/") else root + name
        if os.path.isfile(path):
            return [path]
        if root and os.path.isfile(name):
            return [name]
        if os.path.isdir(path):
            raise Diagnostic(f"'{name}' is a directory", hint="name a program or a library")
        raise Diagnostic(
            f"there is no file '{name}'" + (f" in the root of process {machine.pid}" if root else "")
        )
    path_found = _mapped(name, machine) or _on_path(name, root) or find_library(name, root)
    if path_found is None:
        raise Diagnostic(
            f"'{name}' is neither a program on PATH nor a library the dynamic linker knows",
            hint="give the whole path",
        )
    return [path_found if path_found.startswith(root or "/") and root else root + path_found]


def _own_program(machine: Machine) -> str:
    if machine.pid is not None:
        return f"/proc/{machine.pid}/exe"
    if machine.command:
        return machine.command
    raise Diagnostic("a probe without a path is of the traced program", hint="name a path, or use -p or -c")


def _mapped(name: str, machine: Machine) -> str | None:
    if machine.pid is None:
        return None
    stem = name if name.startswith("lib") else f"lib{name}"
    for mapping in procmaps.read(machine.pid) or ():
        base = mapping.path.rpartition("/")[2]
        if mapping.path.startswith("/") and (
            base in (name, stem) or base.startswith((f"{stem}.so", f"{stem}-"))
        ):
            return mapping.path
    return None


def _on_path(name: str, root: str) -> str | None:
    for directory in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        path = os.path.join(directory or ".", name)
        if os.access(root + path if root else path, os.X_OK) and os.path.isfile(
            root + path if root else path
        ):
            return path
    return None
