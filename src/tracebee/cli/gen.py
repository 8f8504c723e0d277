"""``tracebee gen``: files made of BPF objects."""

from __future__ import annotations

from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import UnsupportedError

USAGE = """\
usage: tracebee gen object OUTPUT INPUT [INPUT ...]    links object files into one
       tracebee gen min_core_btf INPUT OUTPUT OBJECT [OBJECT ...]
                                                       what the objects need of a kernel's types, for
                                                       kernels without types of their own
  options: -j JSON, -p indented JSON"""


def run(argv: list[str]) -> int:
    """The command ``tracebee gen``."""
    commands = {
        "object": _object,
        "min_core_btf": minimise_types,
        "skeleton": _skeleton,
        "subskeleton": _skeleton,
    }
    return dispatch(argv, commands, USAGE)


def _object(words: Words) -> int:
    from tracebee.api.linking import link_objects

    output = words.next("the file to write")
    inputs = [words.next("an object file"), *words.rest()]
    link_objects(output, *inputs)
    return choice.done(words)


def minimise_types(words: Words) -> int:
    """``min_core_btf``: the types that objects' CO-RE relocations need."""
    from tracebee.btf.minimise import minimise
    from tracebee.btf.opening import open_file
    from tracebee.btf.reader import Btf
    from tracebee.obj.elf_reader import read_object

    target = open_file(words.next("a file with a kernel's types"))
    output = words.next("the file to write")
    objects = [read_object(path) for path in (words.next("an object file"), *words.rest())]
    data = minimise(
        target,
        (
            (
                Btf(obj.btf, name=obj.name) if obj.btf else None,
                [
                    reloc.core
                    for function in (*(p.function for p in obj.programs), *obj.functions)
                    for reloc in function.relocs
                    if reloc.core is not None
                ],
            )
            for obj in objects
        ),
    )
    with open(output, "wb") as file:
        file.write(data)
    return choice.done(words)


def _skeleton(words: Words) -> int:
    path = words.next("an object file")
    raise UnsupportedError(
        "there are no skeletons: the Python library opens an object file as it is",
        hint=f'with tracebee.Object("{path}") as obj: has its variables, maps and programs by name; '
        "see docs/library.md, or 'bpftool gen skeleton' for C",
    )
