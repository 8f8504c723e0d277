"""The same script under bpftrace: arithmetic, comparisons, casts, strings and formats must agree.

Left out is what the installed version does otherwise than the language reference of 0.27 has it:
booleans print as words now, and signed division divides.
"""

# ruff: noqa: E501 (one statement, one row)

import random
import subprocess
import sys

import pytest

pytestmark = pytest.mark.needs("bpf", "bpftrace")

NUMBERS = (0, 1, 2, 3, 7, 8, 63, 255, 256, 65535, 65536, 2147483647, 2147483648, 4294967295, 4294967296)


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return [line for line in done.stdout.splitlines() if line and not line.startswith("Attaching")]


def _same(statements: str) -> None:
    script = f"BEGIN {{ {statements} exit(); }}"
    assert _lines(sys.executable, "-m", "tracebee", "-e", script) == _lines("bpftrace", "-e", script)


def test_binary_operators() -> None:
    pick = random.Random(1)
    body = []
    for op in ("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "==", "!=", "<", "<=", ">", ">="):
        for _ in range(3):
            a, b = pick.choice(NUMBERS), pick.choice(NUMBERS[1:6] if op in ("<<", ">>") else NUMBERS[1:])
            body.append(
                f'$a = {a}; $b = {b}; printf("{op} %lld %llu\\n", $a {op} $b, {a} {op} $b);'.replace(
                    "+ %", "+ %"
                )
            )
    text = "".join(body).replace('printf("% ', 'printf("%% ')
    _same(text)


def test_unary_and_casts() -> None:
    body = "".join(
        f'$x = {n}; printf("%lld %lld %lld %lld %lld %lld %lld\\n", -$x, ~$x, (int8)$x, (uint8)$x, (int16)$x, (uint32)$x, (int64)$x);'
        for n in NUMBERS
    )
    _same(body)


def test_formats() -> None:
    _same(
        'printf("%5d|%-5d|%05d|%x|%X|%o|%c|%p\\n", 42, 42, 42, 255, 255, 8, 65, 4096);'
        'printf("%s|%10s|%-10s|%.2s\\n", "ab", "ab", "ab", "abc");'
        'printf("%hhd %hd %d %ld %lld %u %lu %llu %lx\\n", 300, 70000, -1, -1, -1, 5, 6, 7, -1);'
        'printf("%d %d\\n", sizeof(uint64), sizeof(int8));'
    )


def test_maps_and_aggregations() -> None:
    _same(
        '@s["a"] = 1; @s["b"] = 2; @t[1, "x"] = 5; @c = count(); @c = count(); @sum = sum(5); @sum = sum(6);'
        "@avg = avg(4); @avg = avg(7); @min = min(4); @min = min(2); @max = max(3); @max = max(8); @st = stats(3);"
        "@h = hist(0); @h = hist(5); @h = hist(1000); @h = hist(-1); @l = lhist(5, 0, 10, 2); @l = lhist(11, 0, 10, 2);"
        "@n = 7; @i++; @i++; @neg = -5; print(@s); clear(@s); @k[1] = 3; delete(@k[1]);"
    )


def test_strings_and_control() -> None:
    _same(
        '$s = "hello"; if ($s == "hello") { printf("eq\\n"); } if ($s != "help") { printf("ne\\n"); }'
        'printf("%d\\n", strncmp("abc", "abd", 2)); $i = 0; while ($i < 3) { printf("%d\\n", $i); $i++; }'
        'unroll(3) { printf("u\\n"); } printf("%s\\n", 1 ? "yes" : "no"); $t = (1, "two", 3); printf("%d %s\\n", $t.0, $t.1);'
        'print((1, "x", 3)); print("plain"); print(5);'
    )
