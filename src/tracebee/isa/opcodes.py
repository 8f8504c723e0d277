"""The opcode table: one row for every instruction form of RFC 9669 and of the Linux kernel.

An opcode byte alone does not name an instruction: the source register, offset or immediate may choose
between forms (``sdiv`` is ``div`` with offset 1, an atomic's operation is its immediate). A row therefore
says of each field whether it is an operand or a fixed value. The printer, the assembler, the verifiers,
the code generators and the documentation all read this table.

``text`` is the kernel's notation (``kernel/bpf/disasm.c``, also printed by bpftool and in verifier logs);
``mnemonic`` is the name in the conventional assembler of user-space runtimes (``ldxdw``, ``jeq32``).
Conformance groups are those of RFC 9669, section 2.4; ``linux`` marks what only the kernel defines,
``internal`` what the kernel's verifier writes into loaded programs and accepts from nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracebee.isa import insn as isa
from tracebee.isa.insn import Insn
from tracebee.typed import NamedTuple


class Opcode(NamedTuple):
    """One instruction form.

    ``dst``, ``src``, ``off`` and ``imm`` are None for an operand, else the only value the field may have.
    In ``text``, ``{dst}``, ``{src}``, ``{off}`` and ``{imm}`` stand for the operands; ``{uimm}`` is the
    immediate as unsigned 32 bits, ``{low}`` and ``{high}`` the halves of a wide load's immediate,
    ``{delta}`` its low half signed,
    ``{from_as}`` and ``{to_as}`` the halves of an address space cast's, ``{helper}`` a helper's name.
    """

    name: str
    code: int
    mnemonic: str
    text: str
    group: str
    dst: int | None = 0
    src: int | None = 0
    off: int | None = 0
    imm: int | None = 0

    @property
    def insn_class(self) -> int:
        """The instruction class, ``BPF_LD`` to ``BPF_ALU64``."""
        return self.code & 7

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of the fields that are operands, in encoding order."""
        fields = (("dst", self.dst), ("src", self.src), ("off", self.off), ("imm", self.imm))
        return tuple(name for name, fixed in fields if fixed is None)

    def matches(self, insn: Insn) -> bool:
        """Whether an instruction has this form: every fixed field holds its value."""
        _, dst, src, off, imm = insn
        return (
            insn.opcode == self.code
            and self.dst in (None, dst)
            and self.src in (None, src)
            and self.off in (None, off)
            and self.imm in (None, imm)
        )


# (size bits of the opcode, mnemonic suffix, bits) of each access size.
_SIZES = ((isa.BPF_W, "w", 32), (isa.BPF_H, "h", 16), (isa.BPF_B, "b", 8), (isa.BPF_DW, "dw", 64))

# (operation, name, operator in the kernel's notation, group without its width)
_ALU = (
    (isa.BPF_ADD, "add", "+=", "base"),
    (isa.BPF_SUB, "sub", "-=", "base"),
    (isa.BPF_MUL, "mul", "*=", "divmul"),
    (isa.BPF_DIV, "div", "/=", "divmul"),
    (isa.BPF_OR, "or", "|=", "base"),
    (isa.BPF_AND, "and", "&=", "base"),
    (isa.BPF_LSH, "lsh", "<<=", "base"),
    (isa.BPF_RSH, "rsh", ">>=", "base"),
    (isa.BPF_MOD, "mod", "%=", "divmul"),
    (isa.BPF_XOR, "xor", "^=", "base"),
    (isa.BPF_MOV, "mov", "=", "base"),
    (isa.BPF_ARSH, "arsh", "s>>=", "base"),
)
_SIGNED_ALU = ((isa.BPF_DIV, "sdiv", "s/="), (isa.BPF_MOD, "smod", "s%="))

_JUMPS = (
    (isa.BPF_JEQ, "jeq", "=="),
    (isa.BPF_JGT, "jgt", ">"),
    (isa.BPF_JGE, "jge", ">="),
    (isa.BPF_JSET, "jset", "&"),
    (isa.BPF_JNE, "jne", "!="),
    (isa.BPF_JSGT, "jsgt", "s>"),
    (isa.BPF_JSGE, "jsge", "s>="),
    (isa.BPF_JLT, "jlt", "<"),
    (isa.BPF_JLE, "jle", "<="),
    (isa.BPF_JSLT, "jslt", "s<"),
    (isa.BPF_JSLE, "jsle", "s<="),
)

_ATOMICS = (
    (isa.BPF_ADD, "add", "+="),
    (isa.BPF_OR, "or", "|="),
    (isa.BPF_AND, "and", "&="),
    (isa.BPF_XOR, "xor", "^="),
)

# What a wide load's immediate is: (source register, name, text)
_WIDE = (
    (0, "lddw", "r{dst} = 0x{imm:x}"),
    (isa.BPF_PSEUDO_MAP_FD, "lddw_map_fd", "r{dst} = map[id:{low}]"),
    (isa.BPF_PSEUDO_MAP_VALUE, "lddw_map_value", "r{dst} = map[id:{low}][0]{high:+}"),
    (isa.BPF_PSEUDO_BTF_ID, "lddw_btf_id", "r{dst} = btf[fd:{high}][id:{low}]"),
    (isa.BPF_PSEUDO_FUNC, "lddw_func", "r{dst} = subprog[{delta:+}]"),
    (isa.BPF_PSEUDO_MAP_IDX, "lddw_map_idx", "r{dst} = map[idx:{low}]"),
    (isa.BPF_PSEUDO_MAP_IDX_VALUE, "lddw_map_idx_value", "r{dst} = map[idx:{low}]{high:+}"),
)


def _arithmetic(klass: int, bits: int) -> Iterator[Opcode]:
    reg, tail = ("w", "32") if bits == 32 else ("r", "")
    dst = reg + "{dst}"
    for op, name, sign, group in _ALU:
        for source, kind, operand in ((isa.BPF_K, "imm", "{imm}"), (isa.BPF_X, "reg", reg + "{src}")):
            fixed = {"imm": None} if kind == "imm" else {"src": None}
            yield Opcode(
                f"{name}{bits}_{kind}", klass | op | source, name + tail, f"{dst} {sign} {operand}",
                f"{group}{bits}", dst=None, **fixed,
            )  # fmt: skip
    for op, name, sign in _SIGNED_ALU:
        for source, kind, operand in ((isa.BPF_K, "imm", "{imm}"), (isa.BPF_X, "reg", reg + "{src}")):
            fixed = {"imm": None} if kind == "imm" else {"src": None}
            yield Opcode(
                f"{name}{bits}_{kind}", klass | op | source, name + tail, f"{dst} {sign} {operand}",
                f"divmul{bits}", dst=None, off=1, **fixed,
            )  # fmt: skip
    for width in (8, 16) if bits == 32 else (8, 16, 32):
        yield Opcode(
            f"movsx{bits}_s{width}", klass | isa.BPF_MOV | isa.BPF_X, f"movsx{width}{tail}",
            f"{dst} = (s{width}){reg}{{src}}", f"base{bits}", dst=None, src=None, off=width,
        )  # fmt: skip
    yield Opcode(f"neg{bits}", klass | isa.BPF_NEG, "neg" + tail, f"{dst} = -{dst}", f"base{bits}", dst=None)


def _byte_order() -> Iterator[Opcode]:
    for name, code, base in (
        ("le", isa.BPF_ALU | isa.BPF_END | isa.BPF_K, "base32"),
        ("be", isa.BPF_ALU | isa.BPF_END | isa.BPF_X, "base32"),
        ("bswap", isa.BPF_ALU64 | isa.BPF_END, "base32"),
    ):
        for width in (16, 32, 64):
            yield Opcode(
                f"{name}{width}", code, f"{name}{width}", f"r{{dst}} = {name}{width} r{{dst}}",
                "base64" if width == 64 else base, dst=None, imm=width,
            )  # fmt: skip


def _memory() -> Iterator[Opcode]:
    for size, letter, bits in _SIZES:
        group = "base64" if bits == 64 else "base32"
        ctype = f"(u{bits} *)"
        yield Opcode(
            f"ldx_u{bits}", isa.BPF_LDX | isa.BPF_MEM | size, "ldx" + letter,
            f"r{{dst}} = *{ctype}(r{{src}} {{off:+}})", group, dst=None, src=None, off=None,
        )  # fmt: skip
        if bits < 64:
            yield Opcode(
                f"ldx_s{bits}", isa.BPF_LDX | isa.BPF_MEMSX | size, f"ldxs{letter}",
                f"r{{dst}} = *(s{bits} *)(r{{src}} {{off:+}})", "base64", dst=None, src=None, off=None,
            )  # fmt: skip
        yield Opcode(
            f"st_u{bits}", isa.BPF_ST | isa.BPF_MEM | size, "st" + letter,
            f"*{ctype}(r{{dst}} {{off:+}}) = {{imm}}", group, dst=None, off=None, imm=None,
        )  # fmt: skip
        yield Opcode(
            f"stx_u{bits}", isa.BPF_STX | isa.BPF_MEM | size, "stx" + letter,
            f"*{ctype}(r{{dst}} {{off:+}}) = r{{src}}", group, dst=None, src=None, off=None,
        )  # fmt: skip
        if bits < 64:
            yield Opcode(
                f"ld_abs_u{bits}", isa.BPF_LD | isa.BPF_ABS | size, "ldabs" + letter,
                f"r0 = *{ctype}skb[{{imm}}]", "packet", imm=None,
            )  # fmt: skip
            yield Opcode(
                f"ld_ind_u{bits}", isa.BPF_LD | isa.BPF_IND | size, "ldind" + letter,
                f"r0 = *{ctype}skb[r{{src}} + {{imm}}]", "packet", src=None, imm=None,
            )  # fmt: skip


def _atomic() -> Iterator[Opcode]:
    for size, bits in ((isa.BPF_W, 32), (isa.BPF_DW, 64)):
        code = isa.BPF_STX | isa.BPF_ATOMIC | size
        place = f"(u{bits} *)(r{{dst}} {{off:+}})"
        group, wide, tail = f"atomic{bits}", "64" if bits == 64 else "", "32" if bits == 32 else ""
        for op, name, sign in _ATOMICS:
            yield Opcode(
                f"atomic{bits}_{name}", code, f"lock {name}{tail}", f"lock *{place} {sign} r{{src}}",
                group, dst=None, src=None, off=None, imm=op,
            )  # fmt: skip
            yield Opcode(
                f"atomic{bits}_fetch_{name}", code, f"lock fetch {name}{tail}",
                f"r{{src}} = atomic{wide}_fetch_{name}({place}, r{{src}})",
                group, dst=None, src=None, off=None, imm=op | isa.BPF_FETCH,
            )  # fmt: skip
        yield Opcode(
            f"atomic{bits}_xchg", code, f"lock xchg{tail}",
            f"r{{src}} = atomic{wide}_xchg({place}, r{{src}})",
            group, dst=None, src=None, off=None, imm=isa.BPF_XCHG,
        )  # fmt: skip
        yield Opcode(
            f"atomic{bits}_cmpxchg", code, f"lock cmpxchg{tail}",
            f"r0 = atomic{wide}_cmpxchg({place}, r0, r{{src}})",
            group, dst=None, src=None, off=None, imm=isa.BPF_CMPXCHG,
        )  # fmt: skip
    for size, letter, bits in _SIZES:
        code = isa.BPF_STX | isa.BPF_ATOMIC | size
        yield Opcode(
            f"load_acquire_u{bits}", code, f"load_acquire {letter}",
            f"r{{dst}} = load_acquire((u{bits} *)(r{{src}} {{off:+}}))",
            "linux", dst=None, src=None, off=None, imm=isa.BPF_LOAD_ACQ,
        )  # fmt: skip
        yield Opcode(
            f"store_release_u{bits}", code, f"store_release {letter}",
            f"store_release((u{bits} *)(r{{dst}} {{off:+}}), r{{src}})",
            "linux", dst=None, src=None, off=None, imm=isa.BPF_STORE_REL,
        )  # fmt: skip


def _jumps(klass: int, bits: int) -> Iterator[Opcode]:
    reg, tail = ("w", "32") if bits == 32 else ("r", "")
    for op, name, sign in _JUMPS:
        for source, kind, operand in ((isa.BPF_K, "imm", "0x{uimm:x}"), (isa.BPF_X, "reg", reg + "{src}")):
            fixed = {"imm": None} if kind == "imm" else {"src": None}
            yield Opcode(
                f"{name}{bits}_{kind}", klass | op | source, name + tail,
                f"if {reg}{{dst}} {sign} {operand} goto pc{{off:+}}", f"base{bits}",
                dst=None, off=None, **fixed,
            )  # fmt: skip


def _rows() -> Iterator[Opcode]:
    jmp, call = isa.BPF_JMP, isa.BPF_JMP | isa.BPF_CALL
    yield from _arithmetic(isa.BPF_ALU, 32)
    yield from _arithmetic(isa.BPF_ALU64, 64)
    yield from _byte_order()
    yield Opcode(
        "addr_space_cast", isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, "addr_space_cast",
        "r{dst} = addr_space_cast(r{src}, {to_as}, {from_as})", "linux",
        dst=None, src=None, off=1, imm=None,
    )  # fmt: skip
    yield Opcode(
        "mov_percpu_addr", isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, "mov_percpu_addr",
        "r{dst} = &(void __percpu *)(r{src})", "internal", dst=None, src=None, off=-1,
    )  # fmt: skip
    yield Opcode("nospec", isa.BPF_ST | 0xC0, "nospec", "nospec", "internal")
    yield from _memory()
    for source, name, text in _WIDE:
        code = isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW
        yield Opcode(name, code, name, text, "base64", dst=None, src=source, imm=None)
    yield from _atomic()
    yield Opcode("ja", jmp | isa.BPF_JA, "ja", "goto pc{off:+}", "base32", off=None)
    yield Opcode("ja32", isa.BPF_JMP32 | isa.BPF_JA, "ja32", "gotol pc{imm:+}", "base32", imm=None)
    yield from _jumps(isa.BPF_JMP, 64)
    yield from _jumps(isa.BPF_JMP32, 32)
    yield Opcode("may_goto", jmp | isa.BPF_JCOND, "may_goto", "may_goto pc{off:+}", "linux", off=None)
    yield Opcode("gotox", jmp | isa.BPF_JA | isa.BPF_X, "gotox", "gotox r{dst}", "linux", dst=None)
    yield Opcode("call_helper", call, "call", "call {helper}#{imm}", "base32", imm=None)
    yield Opcode(
        "call_local", call, "call local", "call pc{imm:+}", "base32", src=isa.BPF_PSEUDO_CALL, imm=None
    )
    kfunc = isa.BPF_PSEUDO_KFUNC_CALL
    yield Opcode(
        "call_kfunc", call, "call kfunc", "call kernel-function#{imm}", "base32", src=kfunc, imm=None
    )
    # The offset is an index into the program's array of module BTF descriptors.
    yield Opcode(
        "call_module_kfunc", call, "call kfunc", "call kernel-function#{imm}@{off}", "linux",
        src=kfunc, off=None, imm=None,
    )  # fmt: skip
    yield Opcode("exit", jmp | isa.BPF_EXIT, "exit", "exit", "base32")


OPCODES: tuple[Opcode, ...] = tuple(_rows())
BY_NAME: dict[str, Opcode] = {row.name: row for row in OPCODES}

BY_CODE: dict[int, tuple[Opcode, ...]] = {}
for _row in OPCODES:
    BY_CODE[_row.code] = (*BY_CODE.get(_row.code, ()), _row)


def find(insn: Insn) -> Opcode | None:
    """The row an instruction has the form of, or None when it is undefined.

    A row with every selecting field fixed comes before one with an operand there.
    """
    for row in BY_CODE.get(insn.opcode, ()):
        if row.matches(insn):
            return row
    return None
