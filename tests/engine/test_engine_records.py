"""Fields of tracepoints in built scripts: found by a format file, whatever struct they were compiled with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tracebee.api.compiling import compile_text
from tracebee.engine.records import with_records
from tracebee.errors import UnsupportedError
from tracebee.lang.portable import from_object, to_object
from tracebee.obj.elf_reader import read_object
from tracebee.obj.elf_writer import write_object
from tracebee.source import Source

if TYPE_CHECKING:
    from tracebee.lang.script import Script

pytestmark = pytest.mark.needs("bpf")
SCRIPT = "tracepoint:sched:sched_process_exit { @ = args.pid; @name = args.comm; }"
FORMAT = """name: sched_process_exit
ID: 1
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:long new;\toffset:8;\tsize:8;\tsigned:1;
\tfield:pid_t pid;\toffset:16;\tsize:4;\tsigned:1;
\tfield:{comm};\toffset:20;\tsize:16;\tsigned:0;
"""


def built(script: str) -> Script:
    from tracebee.btf import Btf

    compiled = compile_text(Source("x.bt", script), portable=True, cpu_version=3)
    return from_object(read_object("x.bpf.o", write_object(to_object(compiled), Btf.vmlinux())))


def events(comm: str) -> SimpleNamespace:
    return SimpleNamespace(event_format=lambda _system, _event: FORMAT.replace("{comm}", comm))


def test_fields_are_where_the_format_says() -> None:
    script = built(SCRIPT)
    obj = with_records(script.object, script.attachments[0], events("char comm[16]"))  # type: ignore[arg-type]
    function = obj.programs[0].function
    assert not any(r.core for r in function.relocs)
    loads = [i.off for i in function.insns if i.opcode == 0x61 and i.src in (1, 6, 7, 8, 9)]
    assert 16 in loads  # *(u32 *)(ctx + 16)
    assert any(i.imm == 20 for i in function.insns)  # the address of comm


def test_a_field_in_another_form_is_an_error() -> None:
    script = built(SCRIPT)
    there = events("__data_loc char[] comm")
    with pytest.raises(UnsupportedError, match="sched_process_exit has no 'comm' here, or in another form"):
        with_records(script.object, script.attachments[0], there)  # type: ignore[arg-type]
