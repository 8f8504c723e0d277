"""Scripts run in the kernel: each construct of the language, and what it must print or leave in maps.

Expected values are the language reference's semantics worked out by hand, never our own output.
"""

# ruff: noqa: E501 (one case, one row)

import os
import subprocess

import pytest

from tracebee.api.script import run

pytestmark = pytest.mark.needs("bpf")

# name: (statements of BEGIN, what they print)
PRINTED: dict[str, tuple[str, str]] = {
    "arithmetic": ('printf("%d %d %d %d %d", 7 + 3, 7 - 9, 7 * 3, 7 / 2, 7 % 4);', "10 -2 21 3 3"),
    "signed division": ("$x = -7; print($x / 2); print($x % 2);", "-3\n-1"),
    "unsigned division": ("print((uint64)-2 / 2);", "9223372036854775807"),
    "shifts": ("$x = -8; $y = (uint64)8; print($x >> 1); print($y << 2); print($y >> 2);", "-4\n32\n2"),
    "bitwise": ("$x = 12; print($x & 10); print($x | 3); print($x ^ 5); print(~$x);", "8\n15\n9\n-13"),
    "wrap": ("$x = (uint64)-1; print($x + 1); $y = 9223372036854775807; print($y + 1);", "0\n-9223372036854775808"),
    "comparison": ("$x = -1; print($x < 1); print((uint64)$x > 1); print($x == -1);", "true\ntrue\ntrue"),
    "logic": ("print(1 && 0); print(0 || 2); print(!3); print(!0);", "false\ntrue\nfalse\ntrue"),
    "short circuit": ("if (0 && @n++) { } if (1 || @n++) { } print(@n == 0);", "true"),
    "ternary": ('$x = 3; print($x > 2 ? 10 : 20); print($x > 5 ? "big" : "small");', "10\nsmall"),
    "nested ternary": ("$x = 5; print($x < 3 ? 1 : $x < 6 ? 2 : 3);", "2"),
    "casts": ("print((uint8)300); print((int8)200); print((uint16)-1); print((int32)4294967295);", "44\n-56\n65535\n-1"),
    "precedence": ("print(1 + 2 * 3); print((1 + 2) * 3); print(2 + 3 << 1); print(6 & 3 == 3);", "7\n9\n10\n0"),
    "increment": ("$x = 5; print($x++); print(++$x); print($x--); print(--$x);", "5\n7\n7\n5"),
    "map increment": ("print(@a++); print(++@a); @a--; @b[1]++; print(@b[1]++); print(@b[1]);", "0\n2\n1\n@b[1]: 2"),
    "compound": ("$x = 10; $x += 5; $x -= 3; $x *= 2; $x /= 5; $x %= 3; $x <<= 4; $x |= 1; print($x);", "17"),
    "if else": ("$x = 2; if ($x == 1) { print(1) } else if ($x == 2) { print(2) } else { print(3) }", "2"),
    "while": ("$i = 0; while ($i < 5) { $i++; if ($i == 2) { continue } if ($i == 4) { break } print($i); }", "1\n3"),
    "unroll": ("$i = 1; unroll(4) { $i *= 2; } print($i);", "16"),
    "for range": ("$s = 0; for $i : 2..6 { $s += $i; } print($s);", "14"),
    "for range bounds once": ("$n = 3; for $i : 0..$n { print($i); $n = 0; }", "0\n1\n2"),
    "for long range": ("$s = 0; for $i : 0..1000 { if ($i % 2) { continue } if ($i > 500) { break } $s += $i; } print($s);", "62750"),
    "for from variable": ("$a = 5; $b = 9; for $i : $a..$b { print($i); }", "5\n6\n7\n8"),
    "return in a long loop": ("for $i : 0..1000 { if ($i == 3) { printf(\"x\"); return; } }", "x"),
    "variable index": ("$i = pid % 1; print(curtask->signal->rlim[$i].rlim_cur == curtask->signal->rlim[0].rlim_cur); print(curtask->comm[$i] == curtask->comm[0]); print(curtask->parent[$i].pid == ppid); print((curtask->parent + $i)->pid == ppid);", "true\ntrue\ntrue\ntrue"),
    "beyond a kernel pointer": ("print((curtask->parent[1].pid + 1) * 0); print(((curtask->parent + 1)->pid + 1) * 0);", "0\n0"),
    "tuple": ('$t = (1, "ab", (2, 3)); print($t.0 + $t.2.1); print($t.1); print($t);', "4\nab\n(1, ab, (2, 3))"),
    "tuple from itself": ('@t = (1, "ab", 2); @t = (@t.2, @t.1, @t.0); print(@t.0); $v = (1, 2); $v = ($v.1, $v.0); print($v);', "2\n(2, 1)"),
    "tuples compared": ('$t = (pid, "a"); print($t == (pid, "a")); $u = ((uint64)1, "x"); print($u == (1, "x")); print($u != (1, "xy"));', "true\ntrue\ntrue"),
    "string variable": ('$s = "abc"; $s = "longer than that"; print($s); $s = "x"; print($s);', "longer than that\nx"),
    "string compare": ('$s = "abc"; print($s == "abc"); print($s == "abd"); print($s != "abcd");', "true\nfalse\ntrue"),
    "two strings": ('$a = "same"; $b = "same"; $c = "sane"; print($a == $b); print($a == $c);', "true\nfalse"),
    "comm": ('print(comm == "no such"); print(comm != "");', "false\ntrue"),
    "strings in maps": ('@s["k"] = "value"; $v = @s["k"]; print($v); print(@s["none"] == "");', "value\ntrue"),
    "strncmp": ('print(strncmp("hello", "help", 3)); print(strncmp("hello", "help", 4) != 0);', "0\ntrue"),
    "strcontains": ('$h = "hello world"; print(strcontains($h, "lo w")); print(strcontains($h, "lw"));', "true\nfalse"),
    "strstr": ('$h = "aabaac"; print(strstr($h, "aac")); print(strstr($h, "aab")); print(strstr($h, "x"));', "3\n0\n-1"),
    "strstr of a variable": ('$h = "hello"; $n = "ll"; $m = "lo!"; print(strstr($h, $n)); print(strstr($h, $m));', "2\n-1"),
    "strlen": ('$s = "12345"; print(strlen($s)); print(strlen(""));', "5\n0"),
    "memcmp": ('print(memcmp("abc", "abd", 2)); print(memcmp("abc", "abd", 3) < 0);', "0\ntrue"),
    "printf numbers": ('printf("%5d|%-5d|%05d|%x|%X|%o|%c", 42, 42, 42, 255, 255, 8, 65);', "   42|42   |00042|ff|FF|10|A"),
    "printf strings": ('printf("%s|%6s|%-6s|%.2s|%%", "ab", "cd", "ef", "xyz");', "ab|    cd|ef    |xy|%"),
    "printf signs": ('printf("%d %u %ld %llu", -1, (uint32)-1, (int64)-5, (uint64)18446744073709551615);', "-1 4294967295 -5 18446744073709551615"),
    "buf": ('$s = "ab\\x01"; printf("%r %rx", buf($s, 3), buf($s, 2));', "ab\\x01 \\x61\\x62"),
    "pointers": ("$p = (uint32 *)100; print((uint64)($p + 3)); print((uint64)($p - 1)); print($p == 100);", "112\n96\ntrue"),
    "null pointer reads as 0": ("$p = (uint64 *)0; print(*$p); print($p[1]);", "0\n0"),
    "array cast": ("$a = (uint8[4])0x01020304; print($a[0]); print($a[3]); print((uint32)$a);", "4\n1\n16909060"),
    "enum": ("print(BPF_MAP_TYPE_HASH == 1); printf(\"%d %s\", BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY);", "true\n2 BPF_MAP_TYPE_ARRAY"),
    "sizeof": ("print(sizeof(uint32)); print(sizeof((1, 2))); print(sizeof(struct list_head));", "4\n2\n16"),
    "has_key": ("@m[1] = 0; print(has_key(@m, 1)); print(has_key(@m, 2));", "true\nfalse"),
    "delete": ("@m[1] = 5; print(delete(@m, 1)); print(delete(@m, 1)); print(@m[1]);", "true\nfalse\n@m[1]: 0"),
    "delete old form": ("@m[1, 2] = 5; delete(@m[1, 2]); print(has_key(@m, (1, 2)));", "false"),
    "delete scalar": ("@m = 5; delete(@m); print(@m + 0);", "0"),
    "find": ("@m[3] = 30; let $v; if (find(@m, 3, $v)) { print($v); } print(find(@m, 4, $v));", "30\nfalse"),
    "len": ("@m[1] = 1; @m[2] = 1; print(len(@m));", "2"),
    "scalar tuple": ('@t = (5, "five"); print(@t.0); print(@t.1);', "5\nfive"),
    "counts as numbers": ("@c = count(); @c = count(); @s[1] = sum(4); @s[1] = sum(-9); printf(\"%d %d\", @c, @s[1]);", "2 -5"),
    "averages as numbers": ("@a = avg(3); @a = avg(8); @i = min(4); @i = min(2); @x = max(-9); printf(\"%d %d %d\", @a, @i, @x);", "5 2 -9"),
    "condition on count": ("@c = count(); if (@c > 0) { print(1); } if (@c > 1) { print(2); }", "1"),
    "for map": ("@m[1] = 10; @m[2] = 20; $s = 0; for $kv : @m { $s += $kv.0 * 100 + $kv.1; } print($s);", "330"),
    "for map break": ("@m[1] = 1; @m[2] = 1; $n = 0; for $kv : @m { $n++; break; } print($n);", "1"),
    "for map continue": ("@m[1] = 1; @m[2] = 2; for $kv : @m { if ($kv.1 == 1) { continue } print($kv); }", "(2, 2)"),
    "for map of counts": ("@m[1] = count(); @m[1] = count(); for $kv : @m { print($kv); }", "(1, 2)"),
    "for map two keys": ('@m[1, "a"] = 5; for $kv : @m { print($kv.0.1); print($kv.1); }', "a\n5"),
    "for map return": ("@m[1] = 1; for $kv : @m { return; } print(1);", ""),
    "for map strings": ('$p = "x"; @m["k"] = "v"; for $kv : @m { printf("%s%s%s", $p, $kv.0, $kv.1); $p = "y"; } print($p);', "xkvy"),
    "for map nested": ("@a[1] = 1; @b[2] = 2; for $x : @a { for $y : @b { print(($x.0, $y.0)); } }", "(1, 2)"),
    "block expression": ("$a = { let $b = 4; $b + 1 }; print($a);", "5"),
    "let": ("let $x = 3; { let $x = 4; print($x); } print($x);", "4\n3"),
    "let with type": ("let $x : uint8 = 255; $x++; print($x);", "0"),
    "variable from a branch": ("if (1) { $x = 7; } print($x);", "7"),
    "bswap": ("print(bswap((uint16)0x1234)); print(bswap((uint32)1));", "13330\n16777216"),
    "ntop": ('print(ntop(0x0100007f)); print(ntop(pton("10.1.2.3"))); print(ntop(pton("fe80::1")));', "127.0.0.1\n10.1.2.3\nfe80::1"),
    "macaddr": ("print(macaddr((uint8[8])0x0605040302010000));", "00:00:01:02:03:04"),
    "record": ("$r = (a = 1, b = (2, 3)); print($r.a + $r.b.1);", "4"),
    "probe": ("print(probe);", "BEGIN"),
    "ncpus": ("print(ncpus > 0); print(cpu < ncpus);", "true\ntrue"),
    "clocks": ("$a = nsecs; $b = nsecs; print($b >= $a); print(elapsed < 60s); print(nsecs(monotonic) <= nsecs(boot));", "true\ntrue\ntrue"),
    "strerror": ("print(strerror(2)); print(strerror(ENOENT));", "No such file or directory\nNo such file or directory"),
    "wide key": ('@[1, "a", (2, "bc")] = 1; print(@[1, "a", (2, "bc")]); print(has_key(@, (1, "a", (2, "bd"))));', "@[1, a, (2, bc)]: 1\nfalse"),
    "key widens": ('@["a"] = 1; @["abc"] = 2; print(@["a"]); print(@["abc"]);', "@[a]: 1\n@[abc]: 2"),
    "value widens": ("@v = 1; @v = -1; print(@v < 0);", "true"),
    "keys of both sizes": ("@k[1] = 1; @k[(uint64)5000000000] = 2; print(@k[5000000000]);", "@k[5000000000]: 2"),
    "typedef cast": ("print((uint8_t)257); $x = 4294967295; print((int32_t)$x);", "1\n-1"),
    "getopt": ('print(getopt("depth", 3)); print(getopt("all")); print(getopt("name", "none"));', "8\nfalse\nnone"),
    "positional": ('printf("%d %s %d %s|", $1, str($2), $#, str($9)); print(str($2 + 1));', "42 two 2 |wo\n"),
    "offsetof": ("print(offsetof(struct list_head, prev));", "8"),
    "comptime": ("print(comptime (3 * 4));", "12"),
}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_statements(name: str) -> None:
    statements, expected = PRINTED[name]
    source = f"config = {{ print_maps_on_exit = false }} BEGIN {{ {statements} }} END {{ }} interval:s:10 {{ exit(); }}"
    ended = source.replace("interval:s:10", "interval:ms:10")
    result = run(ended, timeout=10, parameters=("42", "two"), named={"depth": "8"})
    assert result.output.replace("Attaching 3 probes...\n", "").strip() == expected.strip()


# name: (statements, maps as Python sees them)
LEFT = {
    "count": ("@ = count(); @ = count(); @k[5] = count();", {"@": 2, "@k": {5: 1}}),
    "sum": ("@ = sum(5); @ = sum(-7);", {"@": -2}),
    "min max": (
        "@i = min(3); @i = min(-3); @i = min(7); @x = max(3); @x = max(9); @x = max(1);",
        {"@i": -3, "@x": 9},
    ),
    "scalars": ('@n = 5; @s = "str"; @t = (1, "x");', {"@n": 5, "@s": "str", "@t": (1, "x")}),
    "unset scalar": ("if (0) { @n = 5; } @m = 1;", {"@n": None, "@m": 1}),
    "strings": ('@["a", 1] = "x"; @["bb", 2] = "yy";', {"@": {("a", 1): "x", ("bb", 2): "yy"}}),
    "comm key": ("@[comm] = 1;", None),
}


@pytest.mark.parametrize("name", LEFT)
def test_maps(name: str) -> None:
    statements, expected = LEFT[name]
    result = run(f"BEGIN {{ {statements} exit(); }}", timeout=10)
    if expected is None:
        with open("/proc/self/comm") as file:
            expected = {"@": {file.read().strip(): 1}}
    assert result.maps == expected


def _bucket(n: int, bits: int) -> int:
    """The bucket of bpftrace's log2 histogram, from its definition."""
    if n < 0:
        return 0
    if n < 1 << bits:
        return n + 1
    top = n.bit_length() - 1
    return ((top - bits + 1) << bits) + ((n >> (top - bits)) & ((1 << bits) - 1)) + 1


@pytest.mark.parametrize("bits", [0, 1, 3, 5])
def test_hist_buckets(bits: int) -> None:
    values = [-5, -1, 0, 1, 2, 3, 4, 7, 8, 1023, 1024, 1 << 31, 1 << 32, (1 << 62) + 12345, (1 << 63) - 1]
    body = "".join(f"@ = hist($x = {v}, {bits});".replace(f"$x = {v}", str(v)) for v in values)
    result = run(f"BEGIN {{ {body} exit(); }}", timeout=10)
    from tracebee.report.histogram import log_buckets

    raw = [0] * (((65 - bits) << bits) + 1)
    for v in values:
        raw[_bucket(v, bits)] += 1
    assert result.maps["@"] == log_buckets(raw, bits)


@pytest.mark.parametrize(("low", "high", "step"), [(0, 10, 1), (0, 100, 10), (-5, 6, 4), (0, 64, 8)])
def test_lhist_buckets(low: int, high: int, step: int) -> None:
    values = [low - 1, low, low + 1, high - 1, high, high + 1, (low + high) // 2]
    body = "".join(f"@ = lhist({v}, {low}, {high}, {step});" for v in values)
    result = run(f"BEGIN {{ {body} exit(); }}", timeout=10)
    from tracebee.report.histogram import linear_buckets

    inner = -((low - high) // step)
    raw = [0] * (inner + 2)
    for v in values:
        raw[0 if v < low else inner + 1 if v >= high else (v - low) // step + 1] += 1
    assert result.maps["@"] == linear_buckets(raw, low, high, step)


def test_task_fields_are_this_process() -> None:
    result = run(
        'BEGIN { $t = curtask; printf("%d %d %s %d", $t.tgid, $t->real_parent->tgid, $t->comm, ppid); exit(); }',
        timeout=10,
    )
    with open("/proc/self/comm") as file:
        comm = file.read().strip()
    pid, parent = os.getpid(), os.getppid()
    assert result.output.splitlines()[-1] == f"{pid} {parent} {comm} {parent}"


def test_identity_builtins() -> None:
    result = run('BEGIN { printf("%d %d %d %d %s", pid, tid, uid, gid, username); exit(); }', timeout=10)
    found = result.output.splitlines()[-1].split()
    assert found[0] == str(os.getpid())
    assert found[2:] == [str(os.getuid()), str(os.getgid()), "root"]


def test_syscall_strings_and_counts() -> None:
    script = """
        tracepoint:syscalls:sys_enter_openat /comm == "cat"/ { @[str(args.filename)] = count(); }
    """
    result = run(script, command=["/bin/cat", "/etc/hostname", "/etc/hostname", "/etc/passwd"], timeout=20)
    assert result.maps["@"]["/etc/hostname"] == 2
    assert result.maps["@"]["/etc/passwd"] == 1


def test_string_is_cut_visibly() -> None:
    script = (
        'tracepoint:syscalls:sys_enter_openat /comm == "cat"/ { printf("%s\\n", str(args.filename, 8)); }'
    )
    result = run(script, command=["/bin/cat", "/etc/hostname"], timeout=20)
    assert "/etc/ho.." in result.output.splitlines()


def test_stacks_have_frames() -> None:
    result = run(
        "BEGIN { @k[kstack] = count(); @n = len(kstack); @three[kstack(3)] = 1; exit(); }", timeout=10
    )
    (stack,) = result.maps["@k"]
    (three,) = result.maps["@three"]
    assert len(three) == 3
    assert result.maps["@n"] > 3
    assert len(stack) > 3


def test_stacks_that_share_a_bucket_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # One bucket for all: every second stack has to go to the hash of whole stacks.
    monkeypatch.setattr("tracebee.lang.assemble._STACKS", 1)
    script = """
        BEGIN { @[kstack] = count(); @[kstack] = count(); }
        tracepoint:sched:sched_switch /@n < 20/ { @n++; @[kstack] = count(); }
        interval:ms:200 { exit(); }
    """
    result = run(script, timeout=20)
    stacks = list(result.maps["@"])
    assert len(stacks) >= 3
    assert all(len(stack) > 1 for stack in stacks)
    assert len(set(stacks)) == len(stacks)
    assert sum(result.maps["@"].values()) == 2 + result.maps["@n"]


def test_map_that_is_full_counts_losses() -> None:
    script = "config = { max_map_keys = 4 } BEGIN { for $i : 0..10 { @[$i] = count(); } exit(); }"
    result = run(script, timeout=10)
    assert len(result.maps["@"]) == 4


def test_signal_and_unsafe() -> None:
    with subprocess.Popen(["/bin/sleep", "30"]) as sleeper:
        sleeper.kill()
    result = run('BEGIN { system("echo from %s", "shell"); exit(); }', timeout=10, unsafe=True)
    assert "from shell" in result.output
