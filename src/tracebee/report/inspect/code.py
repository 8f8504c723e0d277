"""A loaded program's code: translated instructions with source lines, and machine code.

The kernel rewrites what was loaded: calls hold addresses relative to ``__bpf_call_base``, local calls
the number of the function called, map loads the map's id.
"""

from __future__ import annotations

import re

from tracebee.errors import PrivilegeError
from tracebee.isa.codec import decode, encode
from tracebee.isa.disasm import format_insn
from tracebee.isa.insn import BPF_PSEUDO_CALL, Insn
from tracebee.kernel.syscall import MACHINE
from tracebee.report.inspect.btf import btf_of
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.kernel.kallsyms import Kallsyms
    from tracebee.kernel.program import Program
    from tracebee.kernel.program_info import ProgramDetails


# A comma between operands, not one within a memory operand's parentheses.
_COMMA = re.compile(r",\s*(?![^()]*\))")


class SourceLine(NamedTuple):
    """The place an instruction comes from: a line's text, its file, line and column numbers."""

    text: str
    file: str
    line: int
    column: int


class Row(NamedTuple):
    """One translated instruction: its slot, itself, its text, and what begins there, if anything."""

    slot: int
    insn: Insn
    text: str
    proto: str | None
    source: SourceLine | None


def translated(program: Program) -> list[Row]:
    """A program's instructions as the kernel runs or compiles them.

    :raises PrivilegeError: the kernel does not show them to this process.
    """
    details, info = program.details(), program.info()
    if info.xlated_prog_len and not details.xlated:
        raise _not_shown()
    btf = btf_of(info.btf_id) if info.btf_id else None
    sources = _sources(btf, details)
    protos = _protos(btf, details)
    name_call = _call_namer(details)
    rows: list[Row] = []
    slot = 0
    for insn in decode(details.xlated):
        rows.append(Row(slot, insn, format_insn(insn, name_call), protos.get(slot), sources.get(slot)))
        slot += insn.slots
    return rows


def translated_text(rows: list[Row], *, opcodes: bool = False, lines: bool = False) -> str:
    """The listing, with source lines between the instructions as in the kernel's own logs.

    :param opcodes: each instruction's bytes on a line of their own.
    :param lines: file, line and column behind each source line.
    """
    out: list[str] = []
    for row in rows:
        if row.proto is not None:
            out.append(f"{row.proto}:")
        if row.source is not None:
            place = row.source
            tail = f" [file:{place.file} line_num:{place.line} line_col:{place.column}]" if lines else ""
            out.append(f"; {place.text.rstrip()}{tail}")
        out.append(f"{row.slot:4}: ({row.insn.opcode:02x}) {row.text}")
        if opcodes:
            out.append("       " + " ".join(f"{byte:02x}" for byte in encode([row.insn])))
    return "\n".join(out)


def translated_records(
    rows: list[Row], *, opcodes: bool = False, lines: bool = False
) -> list[dict[str, Any]]:
    """The instructions with bpftool's JSON keys."""
    out: list[dict[str, Any]] = []
    for row in rows:
        record: dict[str, Any] = {}
        if row.proto is not None:
            record["proto"] = row.proto
        if row.source is not None:
            record["src"] = row.source.text
            if lines:
                record.update(file=row.source.file, line_num=row.source.line, line_col=row.source.column)
        record["disasm"] = f"({row.insn.opcode:02x}) {row.text}"
        if opcodes:
            record["opcodes"] = _opcode_record(row.insn)
        out.append(record)
    return out


class MachineFunction(NamedTuple):
    """One compiled function: address, symbol, prototype (None without types), machine code, and source lines
    by offset into it.
    """

    address: int
    name: str
    proto: str | None
    code: bytes
    sources: dict[int, SourceLine]


def machine_code(program: Program) -> list[MachineFunction]:
    """A program's functions as the kernel's compiler made them.

    :raises PrivilegeError: the kernel does not show them to this process.
    :raises UnsupportedError: the program is interpreted.
    """
    details, info = program.details(), program.info()
    if not info.jited_prog_len:
        from tracebee.errors import UnsupportedError

        raise UnsupportedError(
            "the program is interpreted, not compiled", hint="see sysctl net.core.bpf_jit_enable"
        )
    if not details.jited:
        raise _not_shown()
    btf = btf_of(info.btf_id) if info.btf_id else None
    by_address = dict(zip(details.jited_line_info, details.line_info, strict=False))
    lengths = details.jited_func_lens or (len(details.jited),)
    addresses = details.jited_ksyms or (0,)
    symbols = _symbols()
    protos = list(_protos(btf, details).values())
    functions: list[MachineFunction] = []
    at = 0
    for number, (address, length) in enumerate(zip(addresses, lengths, strict=False)):
        found = symbols.resolve(address) if address else None
        name = found[0].name if found else f"bpf_prog_{info.tag}_{info.name}"
        sources = {
            place - address: line
            for place, row in by_address.items()
            if address <= place < address + length and (line := _source(btf, row)) is not None
        }
        proto = protos[number] if number < len(protos) else None
        functions.append(MachineFunction(address, name, proto, details.jited[at : at + length], sources))
        at += length
    return functions


def machine_rows(function: MachineFunction) -> list[tuple[int, bytes, str]]:
    """(offset, bytes, text) of each machine instruction: by capstone where it is installed, else the
    bytes in lines of sixteen without text.
    """
    try:
        import capstone
    except ImportError:
        code = function.code
        return [(at, code[at : at + 16], "") for at in range(0, len(code), 16)]
    kinds = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }
    machine = capstone.Cs(*kinds[MACHINE])
    if MACHINE == "x86_64":
        machine.syntax = capstone.CS_OPT_SYNTAX_ATT
    return [
        (insn.address - function.address, bytes(insn.bytes), f"{insn.mnemonic}\t{insn.op_str}".rstrip())
        for insn in machine.disasm(function.code, function.address)
    ]


def machine_text(functions: list[MachineFunction], *, opcodes: bool = False, lines: bool = False) -> str:
    """The functions one after the other, each behind its prototype and symbol."""
    out: list[str] = []
    for function in functions:
        if function.proto is not None:
            out.append(f"{function.proto}:")
        out.append(f"{function.name}:")
        for offset, code, text in machine_rows(function):
            source = function.sources.get(offset)
            if source is not None:
                tail = (
                    f" [file:{source.file} line_num:{source.line} line_col:{source.column}]" if lines else ""
                )
                out.append(f"; {source.text.rstrip()}{tail}")
            hexadecimal = " ".join(f"{byte:02x}" for byte in code)
            out.append(f"{offset:4x}:\t{text or hexadecimal}")
            if opcodes and text:
                out.append(f"\t{hexadecimal}")
        out.append("")
    return "\n".join(out).rstrip("\n")


def machine_records(
    functions: list[MachineFunction], *, opcodes: bool = False, lines: bool = False
) -> list[dict[str, Any]]:
    """The functions with bpftool's JSON keys: ``name``, and ``insns`` with ``pc`` and ``operation``."""
    out: list[dict[str, Any]] = []
    for function in functions:
        insns: list[dict[str, Any]] = []
        for offset, code, text in machine_rows(function):
            row: dict[str, Any] = {"pc": hex(offset)}
            source = function.sources.get(offset)
            if source is not None:
                row["src"] = source.text
                if lines:
                    row.update(file=source.file, line_num=source.line, line_col=source.column)
            operation, _, operands = text.partition("\t")
            row["operation"] = operation
            row["operands"] = _COMMA.split(operands) if operands else [None]
            if opcodes or not text:
                row["opcodes"] = [f"0x{byte:02x}" for byte in code]
            insns.append(row)
        head = {} if function.proto is None else {"proto": function.proto}
        out.append({**head, "name": function.name, "insns": insns})
    return out


def _opcode_record(insn: Insn) -> dict[str, Any]:
    data = encode([insn])
    record: dict[str, Any] = {
        "code": f"0x{insn.opcode:02x}",
        "src_reg": f"{insn.src:#x}",
        "dst_reg": f"{insn.dst:#x}",
        "off": [f"0x{byte:02x}" for byte in data[2:4]],
        "imm": [f"0x{byte:02x}" for byte in data[4:]],
    }
    return record


def _symbols() -> Kallsyms:
    from tracebee.kernel.kallsyms import Kallsyms

    return Kallsyms()


def _call_namer(details: ProgramDetails) -> Callable[[Insn], str | None]:
    symbols = _symbols()
    try:
        base = next((symbol.address for symbol in symbols.find("__bpf_call_base")), 0)
    except PrivilegeError:
        base = 0  # calls keep their numbers

    def exact(address: int) -> str | None:
        found = symbols.resolve(address)
        return found[0].name if found and found[1] == 0 else None

    def name(insn: Insn) -> str | None:
        if insn.src == BPF_PSEUDO_CALL:
            ksyms = details.jited_ksyms
            callee = exact(ksyms[insn.imm]) if 0 <= insn.imm < len(ksyms) else None
            return f"pc{insn.off:+}" + (f"#{callee}" if callee else "")
        return exact(base + insn.imm & 0xFFFFFFFFFFFFFFFF) if base else None

    return name


def _protos(btf: Btf | None, details: ProgramDetails) -> dict[int, str]:
    if btf is None:
        return {}
    found: dict[int, str] = {}
    for slot, type_id in details.func_info:
        record = btf.type(type_id)
        found[slot] = btf.declare(record.type_id, record.name)
    return found


def _sources(btf: Btf | None, details: ProgramDetails) -> dict[int, SourceLine]:
    found: dict[int, SourceLine] = {}
    for row in details.line_info:
        source = _source(btf, row)
        if source is not None:
            found[row[0]] = source
    return found


def _source(btf: Btf | None, row: tuple[int, int, int, int]) -> SourceLine | None:
    if btf is None:
        return None
    _, file, text, place = row
    return SourceLine(btf.string(text).lstrip(), btf.string(file), place >> 10, place & 0x3FF)


def _not_shown() -> Exception:
    from tracebee.kernel.privileges import missing

    return missing("BPF_PROG_LOAD", "the kernel does not show this program's code to this process")
