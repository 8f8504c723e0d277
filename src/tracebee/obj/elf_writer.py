"""Writes an Object as the relocatable ELF file that libbpf, bpftool and tracebee itself load."""

from __future__ import annotations

from tracebee.btf.ext import build_ext
from tracebee.obj.code_writer import CodeWriter
from tracebee.obj.data_writer import write_data
from tracebee.obj.elf_layout import METADATA_SECTION
from tracebee.obj.elf_output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.reader import Btf
    from tracebee.obj.model import Object


def write_object(obj: Object, kernel: Btf | None = None) -> bytes:
    """The ELF file of an object.

    Reading it gives the object again. What the file that it was read from had besides (debugging
    information, relocations of data, which no loader applies) is not written.

    :param kernel: the types that a script's relocations by name were compiled against; needed when there
        are any.
    :raises UnsupportedError: the object has no types for what cannot be written without, or a relocation that
        CO-RE has no form for.
    """
    if not obj.btf and not obj.sections:
        from tracebee.obj.described import described  # not made from C

        obj = described(obj, kernel)
    out = Output(obj)
    code = CodeWriter(out)
    out.declare_externs()
    code.place()
    write_data(out)
    infos = code.write()
    if obj.metadata:
        out.file.section(METADATA_SECTION, obj.metadata)
    if out.btf is not None:
        out.file.section(".BTF", out.types.to_bytes(), align=4)
        # Where there is nothing to say, libbpf refuses what says nothing.
        if any(info.functions or info.lines or info.cores for info in infos):
            ext = build_ext(infos, "<" if obj.order == "little" else ">")
            out.file.section(".BTF.ext", ext, align=4)
    return out.file.to_bytes([s.name for s in obj.sections])
