"""Scripts whose output is fixed print what Debian's bpftrace prints, byte for byte, and end as it ends."""

# ruff: noqa: E501 (one script, one row)

from __future__ import annotations

import subprocess

import pytest

from conftest import command

pytestmark = pytest.mark.needs("bpf", "bpftrace")

SCRIPTS = [
    'BEGIN { printf("hello %s %d\\n", "world", 42); exit(); }',
    'BEGIN { @a = 1; @b = "text"; @c[1,"x"] = 2; @c[2,"y"] = 1; exit(); }',
    "BEGIN { @ = hist(1); @ = hist(2); @ = hist(0); @ = hist(1024); @ = hist(-5); @ = hist(1000000); exit(); }",
    "BEGIN { @l = lhist(5,0,100,10); @l = lhist(-1,0,100,10); @l = lhist(500,0,100,10); @l = lhist(55,0,100,10); exit(); }",
    "BEGIN { @ = lhist(1, 0, 1000000, 1000); @ = lhist(999999, 0, 1000000, 1000); exit(); }",
    'BEGIN { @["a"] = hist(3); @["b"] = hist(300); @["b"] = hist(3); exit(); }',
    "BEGIN { @c = count(); @s = sum(5); @s = sum(7); @a = avg(10); @a = avg(20); @mi = min(9); @mi = min(3); @ma = max(9); @ma = max(30); @st = stats(10); @st = stats(30); exit(); }",
    'BEGIN { @["x"] = count(); @["x"] = count(); @["y"] = count(); @s["z"] = stats(4); exit(); }',
    "BEGIN { @x[1] = 10; @x[2] = 20; @x[3] = 5; print(@x, 2); print(@x, 2, 5); clear(@x); exit(); }",
    'BEGIN { @q["one", 2, 3] = avg(4); @q["one", 2, 4] = avg(6); print(@q); exit(); }',
    "BEGIN { @[1] = sum(2); @[-1] = sum(1); @[5] = sum(3); print(@, 1); exit(); }",
    'BEGIN { $t = (1, "two", 3); print($t); print($t.1); @t = (1,2); exit(); }',
    "BEGIN { @x = 1; zero(@x); @y[1] = 1; delete(@y[1]); @z[1] = 3; zero(@z); exit(); }",
    "BEGIN { print(@nothing); @nothing = 1; clear(@nothing); exit(); }",
    'BEGIN { printf("%-10s|%10s|%5d|%-5d|%05d|%x|%X|%o|%c|\\n", "ab", "cd", 1, 2, 3, 255, 255, 8, 65); exit(); }',
    'BEGIN { printf("%5.1s|%.3s|%-6.2s|%p %lx %llu %hhx %hu\\n", "abc", "abcdef", "xyz", 4096, -1, -1, 300, 70000); exit(); }',
    'BEGIN { printf("%r\\n", buf("hello\\x01\\x02", 7)); printf("%s %s\\n", ntop(0x0100007f), ntop(0x04030201)); exit(); }',
    'BEGIN { print(5); print("s"); print((1,"a")); print(-3); print(ntop(0x0100007f)); exit(); }',
    'BEGIN { $i = 0; while ($i < 5) { printf("%d ", $i); $i++; } printf("\\n"); unroll(3) { printf("u\\n"); } exit(); }',
    'BEGIN { if (1 == 2) { printf("a\\n"); } else if (3 > 2) { printf("b\\n"); } else { printf("c\\n"); } exit(); } END { printf("end\\n"); }',
    'BEGIN { @s = strncmp("abc", "abd", 2); @t = strncmp("abc","abd",3); printf("%d\\n", "abc" == "abc"); exit(); }',
    'BEGIN { cat("/etc/os-release"); time("now\\n"); printf("%s\\n", strftime("%Y", 0)); exit(); }',
    'BEGIN { $x = (uint8)300; $y = (int8)200; printf("%d %d %d\\n", $x, $y, (int16)70000); exit(); }',
    'struct A { int a; char b; short c[3]; } BEGIN { printf("%d\\n", sizeof(struct A)); exit(); }',
    '#ifndef BPFTRACE_HAVE_BTF\n#include <linux/sched.h>\n#endif\nBEGIN { printf("%d\\n", ((struct task_struct *)curtask)->pid == tid); exit(); }',
    "BEGIN { @a[1] = 1; @a[2] = 2; @a[1]++; @a[2] += 5; @a[3]--; exit(); }",
    "interval:ms:10 { @n++; if (@n == 3) { exit(); } }",
    'BEGIN { printf("%d\\n", $1); printf("%s|\\n", str($2)); exit(); }',
    # kaddr() is a number: an offset from it is bytes.
    'BEGIN { $a = kaddr("do_exit"); printf("%lx %lx\\n", *($a + 8), *$a); exit(); }',
]


def _ran(*words: str) -> tuple[int, str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_same_output(script: str) -> None:
    # bpftrace wants tracefs where it always is: mounted for it alone.
    mount = 'mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; exec bpftrace -e "$0"'
    status, output = _ran("unshare", "-m", "sh", "-c", mount, script)
    assert status == 0
    assert _ran(*command("-e", script)) == (status, output)
