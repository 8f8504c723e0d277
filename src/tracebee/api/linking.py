"""Several object files linked into one file."""

from __future__ import annotations

import os


def link_objects(output: str | os.PathLike[str], *inputs: str | os.PathLike[str]) -> None:
    """Link object files, as ``bpftool gen object`` does, and write the result.

    What none of the inputs defines stays extern, so that the file can be linked again.

    :param output: the file to write; libbpf, bpftool and ``Object`` load it.
    :param inputs: files that clang has built, ``tracebee build``, or a linker.
    :raises UsageError: there is no input.
    :raises DecodeError: one is no BPF object, or they do not fit each other. OSError: a file cannot be read
        or written.
    """
    from tracebee.errors import UsageError
    from tracebee.obj.elf_writer import write_object
    from tracebee.obj.linker import link_files

    if not inputs:
        raise UsageError("there is nothing to link", hint="name the object files behind the output")
    data = write_object(link_files([os.fspath(path) for path in inputs]))
    with open(output, "wb") as file:
        file.write(data)
