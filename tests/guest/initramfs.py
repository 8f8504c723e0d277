"""A first file system for guest kernels that have virtio-fs as modules (Debian's before 6.12)."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("initramfs.c")
# A kernel that has them built in has no files of them.
MODULES = ("virtio_pci", "virtiofs")
_DIRECTORY, _FILE = 0o040755, 0o100755


def build(modules: Path, command: str, folder: Path) -> Path | None:
    """Write the archive that loads what ``/`` needs and runs ``command`` there; None when nothing is needed.

    :param modules: where the kernel's modules are.
    :param folder: where the archive goes.
    """
    found = {path.stem: path for path in modules.glob("*/kernel/**/*.ko")}
    wanted: list[Path] = []
    for name in MODULES:
        _add(name, found, wanted)
    if not wanted:
        return None
    program = folder / "initramfs-init"
    subprocess.run(["gcc", "-static", "-O2", "-o", program, SOURCE], check=True)
    entries = [("root", _DIRECTORY, b""), ("init", _FILE, program.read_bytes())]
    entries += [(f"{number}.ko", _FILE, path.read_bytes()) for number, path in enumerate(wanted)]
    entries += [("command", _FILE, command.encode()), ("TRAILER!!!", 0, b"")]
    archive = folder / "initramfs"
    archive.write_bytes(b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1)))
    return archive


def _add(name: str, found: dict[str, Path], wanted: list[Path]) -> None:
    """Append a module behind those it says it depends on."""
    path = found.get(name)
    if path is None or path in wanted:
        return
    depends = path.read_bytes().partition(b"\0depends=")[2].partition(b"\0")[0].decode()
    for other in filter(None, depends.split(",")):
        _add(other.replace("-", "_"), found, wanted)
    wanted.append(path)


def _entry(number: int, name: str, mode: int, contents: bytes) -> bytes:
    """One file in cpio's "newc" format (kernel: driver-api/early-userspace/buffer-format)."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + contents + bytes(-len(contents) % 4)
