"""Of several reasons to refuse an object, the one that libbpf gives: it decides in this order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee import uapi
from tracebee.engine.kernel.kernel_symbols import KernelSymbols
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import DecodeError, KernelError, SymbolError, UnsupportedError, VerifierError
from tracebee.kernel import kallsyms
from tracebee.obj.elf_reader import read_object
from tracebee.obj.model import MapDef, Object, RelocKind

pytestmark = [pytest.mark.needs("bpf", "clang")]
IMPOSSIBLE = MapDef("impossible", uapi.BPF_MAP_TYPE_ARRAY, 8, 8, 1)


def all_strong(obj: Object) -> Object:
    return obj._replace(externs=tuple(e._replace(weak=False) for e in obj.externs))


def test_what_no_program_uses_must_be_there_too(compiled: Callable[[str], str]) -> None:
    obj = all_strong(read_object(compiled("kfuncs")))
    with pytest.raises(UnsupportedError, match="no function 'bpf_no_such_function'"):
        load_object(obj, programs=lambda _: False)


def test_first_the_section_then_externs_then_maps_then_targets(compiled: Callable[[str], str]) -> None:
    obj = all_strong(read_object(compiled("kfuncs")))
    (program,) = obj.programs
    lost = program._replace(attach_target="no_such_event")
    obj = obj._replace(maps=(*obj.maps, IMPOSSIBLE))
    with pytest.raises(UnsupportedError, match="section 'elsewhere' of program 'exec' says no program type"):
        load_object(obj._replace(programs=(lost._replace(type=0, section="elsewhere"),)))
    with pytest.raises(UnsupportedError, match="no function 'bpf_no_such_function'"):
        load_object(obj._replace(programs=(lost,)))
    obj = obj._replace(externs=tuple(e._replace(weak=True) for e in obj.externs))
    with pytest.raises(KernelError, match="map 'impossible'"):
        load_object(obj._replace(programs=(lost,)))
    with pytest.raises(
        SymbolError, match="program 'exec': the kernel and its modules have no 'btf_trace_no_"
    ):
        load_object(obj._replace(programs=(lost,), maps=obj.maps[:-1]))


def test_configuration_comes_before_maps(compiled: Callable[[str], str]) -> None:
    obj = all_strong(read_object(compiled("externs")))
    with pytest.raises(UnsupportedError, match="CONFIG_NO_SUCH_THING"):
        load_object(obj._replace(maps=(IMPOSSIBLE, *obj.maps)))


def test_symbols_by_name(
    compiled: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    obj = read_object(compiled("externs"))
    (reloc,) = (r for r in obj.programs[0].function.relocs if r.kind == RelocKind.KSYM)
    (insn,) = (i for n, i in enumerate(obj.programs[0].function.insns) if n == reloc.at)
    table = tmp_path / "kallsyms"
    monkeypatch.setattr(kallsyms, "PATH", str(table))

    def address(line: str, *, weak: bool = False) -> int:
        table.write_text(f"ffffffff81000000 T other\n{line}")
        own = tuple(e._replace(weak=weak) for e in obj.externs if e.name == reloc.symbol)
        symbols = KernelSymbols(obj._replace(externs=own))
        symbols.check()
        return symbols.variable(insn, reloc._replace(weak=weak)).imm

    assert address(f"ffffffff81000100 d {reloc.symbol}\n") == 0xFFFFFFFF81000100
    assert address(f"0000000000000000 D {reloc.symbol}\n") == 0  # where the variables of a CPU begin
    assert address("", weak=True) == 0
    with pytest.raises(UnsupportedError, match="this kernel has no symbol"):
        address("")
    with pytest.raises(UnsupportedError, match="this kernel has 2 symbols 'bpf_prog_active_no_such'"):
        address(f"ffffffff81000100 d {reloc.symbol}\nffffffff81000200 d {reloc.symbol}\n", weak=True)


def test_relocations_that_do_not_fit_say_where(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("missing"))
    (program,) = obj.programs
    (reloc,) = (r for r in program.function.relocs if r.kind == RelocKind.CORE)
    insns = list(program.function.insns)
    insns[reloc.at] = insns[reloc.at]._replace(opcode=0x95)
    wrong = program._replace(function=program.function._replace(insns=tuple(insns)))
    known = reloc.core._replace(type_name="task_struct", access="pid", type_id=0) if reloc.core else None
    relocs = tuple(r._replace(core=known) if r == reloc else r for r in wrong.function.relocs)
    wrong = wrong._replace(function=wrong.function._replace(relocs=relocs))
    with pytest.raises(DecodeError, match=f"program 'exec', instruction {reloc.at}: CO-RE relocation of an"):
        load_object(obj._replace(programs=(wrong,)))


def test_functions_of_another_type_are_not_taken(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("kfunc_types"))
    with pytest.raises(UnsupportedError, match="'bpf_task_release' is not of the type it is declared with"):
        load_object(obj)
    obj = obj._replace(externs=tuple(e._replace(weak=True) for e in obj.externs))
    with load_object(obj) as loaded:
        assert list(loaded.programs) == ["weak"]
    with pytest.raises(VerifierError, match="'unguarded' calls the function 'bpf_task_acquire', which this"):
        load_object(obj, programs=lambda p: p.name == "unguarded")


def test_of_several_missing_functions_the_first_by_name(compiled: Callable[[str], str]) -> None:
    obj = all_strong(read_object(compiled("kfuncs")))
    missing = next(e for e in obj.externs if e.name == "bpf_no_such_function")
    names = ("bpf_none_b", "bpf_none_a", "bpf_none_c")
    more = tuple(missing._replace(name=name) for name in names)
    obj = obj._replace(externs=(*more, *(e for e in obj.externs if e != missing)))
    with pytest.raises(UnsupportedError, match="no function 'bpf_none_a'"):
        load_object(obj)
