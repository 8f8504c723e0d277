""".BTF.ext: what is built parses back, whatever the bytes; clang's own sections parse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.btf import Btf
from tracebee.btf.ext import CoreInfo, FuncInfo, LineInfo, SectionInfo, build_ext, parse_ext
from tracebee.elf import ElfFile
from tracebee.errors import DecodeError

u32 = st.integers(0, 2**32 - 1)
functions = st.builds(FuncInfo, u32, u32)
lines = st.builds(LineInfo, u32, u32, u32, st.integers(0, 2**22 - 1), st.integers(0, 1023))
cores = st.builds(CoreInfo, u32, u32, u32, u32)
sections = st.dictionaries(
    u32,
    st.tuples(*(st.lists(kind, max_size=4).map(tuple) for kind in (functions, lines, cores))).filter(any),
    max_size=4,
)


@given(sections, st.sampled_from("<>"))
def test_parse_inverts_build(content: dict[int, tuple[tuple[FuncInfo, ...], ...]], order: str) -> None:
    wanted = {name: SectionInfo(name, *parts) for name, parts in content.items()}  # type: ignore[arg-type]
    assert parse_ext(build_ext(list(wanted.values()), order), order) == wanted


@given(st.binary(max_size=120).map(lambda tail: b"\x9f\xeb\x01\0\x20\0\0\0" + tail) | st.binary(max_size=40))
def test_any_bytes_parse_or_raise_decode_error(data: bytes) -> None:
    try:
        parse_ext(data)
    except DecodeError:
        pass


@pytest.mark.needs("clang")
def test_clang_says_where_functions_lines_and_accesses_are(tmp_path: Path) -> None:
    source = tmp_path / "a.bpf.c"
    source.write_text(
        "struct s { int a, b; } __attribute__((preserve_access_index));\n"
        '__attribute__((section("socket"))) int prog(struct s *s)\n{\n\treturn s->b;\n}\n'
    )
    target = tmp_path / "a.o"
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", "-c", str(source), "-o", str(target)], check=True)
    with ElfFile(str(target)) as elf:
        btf = Btf.from_file(str(target))
        section = elf.section(".BTF.ext")
        assert section is not None
        (info,) = parse_ext(elf.contents(section)).values()
    assert btf.string(info.name) == "socket"
    assert [btf.type(f.type_id).name for f in info.functions] == ["prog"]
    assert btf.string(info.lines[-1].text).strip() == "return s->b;"
    assert [(btf.type(c.type_id).name, btf.string(c.access), c.kind) for c in info.cores] == [("s", "0:1", 0)]
