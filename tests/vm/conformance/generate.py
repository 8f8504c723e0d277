"""Writes the systematic conformance cases: ``python tests/vm/conformance/generate.py`` as root.

The results are what the running kernel's JIT computes; nothing of this project's runtime takes part. Cases
written by hand stand beside these files and are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tracebee.isa import asm_ubpf
from tracebee.isa.codec import encode
from tracebee.vm.conformance import run_in_kernel

HERE = Path(__file__).parent
HEADER = "# Written by generate.py; the result is the Linux kernel's.\n"

ALU = ("add", "sub", "mul", "div", "mod", "or", "and", "xor", "lsh", "rsh", "arsh", "mov", "sdiv", "smod")
# Dividend-like and divisor-like operands: small, negative, with high halves, the least and greatest numbers.
PAIRS = (
    (0x0000000000000007, 3),
    (0xFFFFFFFFFFFFFFF9, 3),
    (0x8000000000000000, -1),
    (0x123456789ABCDEF0, 0x7FFFFFFF),
    (0x00000001FFFFFFFF, -2147483648),
)
REGISTER_PAIRS = (
    (0x0000000000000007, 0),
    (0xFFFFFFFFFFFFFFF9, 0x0000000200000003),
    (0x8000000000000000, 0xFFFFFFFFFFFFFFFF),
    (0x123456789ABCDEF0, 0xFEDCBA9800000000),
    (0xFFFFFFFF80000000, 0x00000000FFFFFFFF),
)
JUMPS = ("jeq", "jne", "jgt", "jge", "jlt", "jle", "jset", "jsgt", "jsge", "jslt", "jsle")
JUMP_PAIRS = ((5, 5), (0xFFFFFFFFFFFFFFFF, 1), (0x1_00000001, 2), (0x7FFFFFFF80000000, -2147483648))
MEMORY = "8a 9b ac bd ce df e0 f1 12 23 34 45 56 67 78 89"


def shift_safe(name: str, width: str, operand: int) -> int:
    """The assemblers and verifiers take only shift amounts below the width as immediates."""
    return operand % (32 if width else 64) if name in ("lsh", "rsh", "arsh") else operand


def arithmetic() -> Iterator[tuple[str, str, str]]:
    for width in ("", "32"):
        for name in ALU:
            for n, (a, b) in enumerate(PAIRS, 1):
                b = shift_safe(name, width, b)
                yield f"{name}{width}-imm-{n}", f"lddw %r0, {a:#x}\n{name}{width} %r0, {b}\nexit", ""
            for n, (a, b) in enumerate(REGISTER_PAIRS, 1):
                if name in ("lsh", "rsh", "arsh"):
                    b &= 0xFFFFFFFF_000000FF
                code = f"lddw %r0, {a:#x}\nlddw %r1, {b:#x}\n{name}{width} %r0, %r1\nexit"
                yield f"{name}{width}-reg-{n}", code, ""
    for width in ("", "32"):
        for n, value in enumerate((1, 0x8000000080000000, 0xFFFFFFFF00000000), 1):
            yield f"neg{width}-{n}", f"lddw %r0, {value:#x}\nneg{width} %r0\nexit", ""
        for bits in (8, 16, 32) if not width else (8, 16):
            for n, value in enumerate((0x1234567881828384, 0xFFFFFFFF7E7D7C7B), 1):
                code = f"lddw %r1, {value:#x}\nmovsx{bits}{width} %r0, %r1\nexit"
                yield f"movsx{bits}{width}-{n}", code, ""
    for name in ("le", "be", "swap"):
        for bits in (16, 32, 64):
            yield f"{name}{bits}", f"lddw %r0, 0x8877665544332211\n{name}{bits} %r0\nexit", ""


def jumps() -> Iterator[tuple[str, str, str]]:
    for width in ("", "32"):
        for name in JUMPS:
            for n, (a, b) in enumerate(JUMP_PAIRS, 1):
                body = "mov %r0, 1\nexit\ntaken:\nmov %r0, 2\nexit"
                code = f"lddw %r1, {a:#x}\n{name}{width} %r1, {b}, taken\n{body}"
                yield f"{name}{width}-imm-{n}", code, ""
                code = f"lddw %r1, {a:#x}\nlddw %r2, {b & (1 << 64) - 1:#x}\n"
                code += f"{name}{width} %r1, %r2, taken\n{body}"
                yield f"{name}{width}-reg-{n}", code, ""
    yield "ja", "mov %r0, 1\nja +2\nback:\nadd %r0, 2\nexit\nja back", ""
    yield "ja32", "mov %r0, 1\nja32 +2\nback:\nadd %r0, 2\nexit\nja32 back", ""
    yield "ja-back", "mov %r0, 0\nja in\nloop:\nadd %r0, 3\nin:\njlt %r0, 30, loop\nexit", ""


def memory() -> Iterator[tuple[str, str, str]]:
    for size, offsets in (("b", (0, 7, 15)), ("h", (0, 3, 14)), ("w", (0, 5, 12)), ("dw", (0, 3, 8))):
        for offset in offsets:
            yield f"ldx{size}-{offset}", f"ldx{size} %r0, [%r1+{offset}]\nexit", MEMORY
            if size != "dw":
                yield f"ldxs{size}-{offset}", f"ldxs{size} %r0, [%r1+{offset}]\nexit", MEMORY
        for offset in offsets[:2]:
            after = "ldxdw %r0, [%r1+0]\nldxdw %r2, [%r1+8]\nxor %r0, %r2\nexit"
            code = f"st{size} [%r1+{offset}], -1985229329\n{after}"
            yield f"st{size}-{offset}", code, MEMORY
            code = f"lddw %r3, 0x0123456789abcdef\nstx{size} [%r1+{offset}], %r3\n{after}"
            yield f"stx{size}-{offset}", code, MEMORY
        code = f"lddw %r3, 0x0123456789abcdef\nstdw [%r10-8], 0\nstx{size} [%r10-8], %r3\n"
        code += "ldxdw %r0, [%r10-8]\nexit"
        yield f"stack-{size}", code, ""
        # A load must not keep what the register held above it.
        code = f"lddw %r0, 0xffffffffffffffff\nldx{size} %r0, [%r1]\nexit"
        yield f"ldx{size}-clears", code, MEMORY
    yield "lddw-low", "lddw %r0, 0x00000000ffffffff\nexit", ""
    yield "lddw-high", "lddw %r0, 0xffffffff00000000\nexit", ""
    yield "lddw-skip", "mov %r0, 1\nja +3\nback:\nlddw %r0, 0x1122334455667788\nexit\nja back", ""
    yield "mem-length", "mov %r0, %r2\nexit", MEMORY


def atomics() -> Iterator[tuple[str, str, str]]:
    start, operand = 0x8000000180000001, 0x7FFFFFFF800000FF
    for width in ("", "32"):
        setup = f"lddw %r0, {start:#x}\nlddw %r2, {operand:#x}\nstxdw [%r10-8], %r0\n"
        sum_up = "ldxdw %r1, [%r10-8]\nxor %r0, %r1\nexit"
        for name in ("add", "or", "and", "xor"):
            yield (
                f"lock-{name}{width}",
                f"{setup}lock {name}{width} [%r10-8], %r2\nldxdw %r0, [%r10-8]\nexit",
                "",
            )
            fetch = f"{setup}lock fetch {name}{width} [%r10-8], %r2\n"
            yield f"lock-fetch-{name}{width}", f"{fetch}mov %r0, %r2\nexit", ""
            yield f"lock-fetch-{name}{width}-memory", f"{fetch}ldxdw %r0, [%r10-8]\nexit", ""
        exchange = f"{setup}lock xchg{width} [%r10-8], %r2\n"
        yield f"lock-xchg{width}", f"{exchange}mov %r0, %r2\nexit", ""
        yield f"lock-xchg{width}-memory", f"{exchange}ldxdw %r0, [%r10-8]\nexit", ""
        for n, expected in enumerate((start, start + 1, start & 0xFFFFFFFF), 1):
            code = f"{setup}lddw %r0, {expected:#x}\nlock cmpxchg{width} [%r10-8], %r2\n"
            yield f"lock-cmpxchg{width}-{n}", f"{code}exit", ""
            yield f"lock-cmpxchg{width}-{n}-memory", f"{code}ldxdw %r0, [%r10-8]\nexit", ""
        yield (
            f"lock-fetch-add{width}-both",
            f"{setup}lock fetch add{width} [%r10-8], %r2\nmov %r0, %r2\n{sum_up}",
            "",
        )
    for size in ("b", "h", "w", "dw"):
        setup = "lddw %r2, 0xfedcba9876543210\nstxdw [%r10-8], %r2\n"
        yield f"load-acquire-{size}", f"{setup}load_acquire {size} %r0, [%r10-8]\nexit", ""
        code = f"{setup}mov %r3, 0x1234\nstore_release {size} [%r10-8], %r3\nldxdw %r0, [%r10-8]\nexit"
        yield f"store-release-{size}", code, ""


def packets() -> Iterator[tuple[str, str, str]]:
    for size, last in (("b", 15), ("h", 14), ("w", 12)):
        for offset in (0, 3, last):
            yield f"ldabs{size}-{offset}", f"mov %r6, %r1\nldabs{size} {offset}\nexit", MEMORY
        code = f"mov %r6, %r1\nmov %r7, 2\nldind{size} %r7, 3\nexit"
        yield f"ldind{size}-3", code, MEMORY
        code = f"mov %r6, %r1\nmov %r7, 5\nldind{size} %r7, -4\nexit"
        yield f"ldind{size}-negative", code, MEMORY
        code = f"mov %r6, %r1\nmov %r0, 7\nldabs{size} {last + 1}\nmov %r0, 9\nexit"
        yield f"ldabs{size}-beyond", code, MEMORY


def main() -> None:
    for group in (arithmetic, jumps, memory, atomics, packets):
        for name, code, bytes_ in group():
            result = run_in_kernel(encode(asm_ubpf.assemble(code, name)), bytes.fromhex(bytes_))
            text = f"{HEADER}-- asm\n{code}\n"
            text += f"-- mem\n{bytes_}\n" if bytes_ else ""
            (HERE / f"{name}.data").write_text(f"{text}-- result\n{result:#x}\n")


if __name__ == "__main__":
    main()
