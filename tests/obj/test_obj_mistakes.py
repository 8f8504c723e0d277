"""Mistakes in C sources that only the loader sees: it names the thing and the way out.

All are refused by libbpf too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.engine.kernel.kconfig import kconfig_values
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import DecodeError, KernelError, TracebeeError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.image import build_image
from tracebee.obj.model import Object

pytestmark = pytest.mark.needs("clang")

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
char LICENSE[] SEC("license") = "GPL";
"""
MAP = (
    HEAD
    + """
struct { %s } m SEC(".maps");
SEC("socket") int prog(struct __sk_buff *ctx)
{
	int key = 0;
	return !bpf_map_lookup_elem(&m, &key);
}
"""
)
ARRAY = "__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); "
SETTING = (
    HEAD
    + """
extern %s __kconfig;
volatile long seen;
SEC("socket") int prog(struct __sk_buff *ctx)
{
	seen = *(volatile char *)&%s;
	return 0;
}
"""
)


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Object]:
    """The object that clang makes of a text."""

    def make(text: str) -> Object:
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        target = tmp_path / "mistake.bpf.o"
        command = [
            "clang",
            "-w",
            "-O2",
            "-g",
            "-target",
            "bpf",
            include,
            "-x",
            "c",
            "-c",
            "-",
            "-o",
            str(target),
        ]
        subprocess.run(command, input=text, text=True, check=True)
        return read_object(str(target))

    return make


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            'SEC("socket") int prog(struct __sk_buff *ctx) { return htons(ctx->protocol); }',
            "htons is used, but no declaration of it",
            "a missing #include",
        ),
        (
            'char _version SEC("version") = 1;',
            "section version has 1 bytes",
            '__u32 _version SEC("version")',
        ),
        (
            """
struct bpf_elf_map { __u32 type, size_key, size_value, max_elem, flags, id, pinning; };
struct bpf_elf_map SEC("maps") shared = { BPF_MAP_TYPE_ARRAY, 4, 4, 1, .pinning = 2 };
""",
            "map shared: has fields that struct bpf_map_def does not know",
            'SEC(".maps")',
        ),
        (
            """
struct { int type, key_size, value_size, max_entries; } mixed SEC(".maps") = { 2, 4, 4, 1 };
SEC("socket") int prog(struct __sk_buff *ctx) { int k = 0; return !bpf_map_lookup_elem(&mixed, &k); }
""",
            "map mixed: field 'type' is not written with __uint",
            "write __uint(type, NUMBER)",
        ),
    ],
)
def test_what_is_said(made: Callable[[str], Object], text: str, message: str, hint: str) -> None:
    with pytest.raises(DecodeError) as caught:
        made(HEAD + text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (ARRAY + "__type(key, int); __uint(key_size, 8);", "key_size is 4 in one place and 8 in another"),
        (ARRAY + "__uint(value_size, 4); __type(value, long);", "value_size is 4 in one place and 8 in anot"),
        (ARRAY + "__type(key, void); __type(value, int);", "a key of type void has no size"),
        (ARRAY + "__type(key, int); __array(values, int (void *));", "'values' is for maps of maps and"),
        (
            "__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); __type(key, int);"
            f"__array(values, struct {{ {ARRAY} __type(key, int); __type(value, int);"
            "__uint(pinning, 1); });",
            "map m.inner: an inner map cannot be pinned",
        ),
    ],
)
def test_maps_that_contradict_themselves(made: Callable[[str], Object], members: str, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        made(MAP % members)
    assert message in caught.value.message


def test_a_node_without_its_flag_is_not_looked_at(made: Callable[[str], Object]) -> None:
    given = ARRAY + "__type(key, int); __type(value, int); __uint(numa_node, 9); __uint(map_flags, %s);"
    assert made(MAP % (given % "BPF_F_MMAPABLE")).maps[0].numa_node is None
    assert made(MAP % (given % "BPF_F_NUMA_NODE")).maps[0].numa_node == 9


def test_maps_that_are_no_structs(made: Callable[[str], Object]) -> None:
    with pytest.raises(DecodeError, match="map m is no struct"):
        made(HEAD + 'int m SEC(".maps"); SEC("socket") int prog(void *ctx) { return (long)&m; }')


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("bool CONFIG_HZ", "CONFIG_HZ is [0-9]*, which _Bool does not hold"),
        ("signed char CONFIG_PHYSICAL_START", "which signed char does not hold"),
        ("char CONFIG_HZ[8]", r"which char\[8\] does not hold"),
        ("enum libbpf_tristate CONFIG_HZ", "which enum libbpf_tristate does not hold"),
        ("int CONFIG_BPF_SYSCALL", "CONFIG_BPF_SYSCALL is 'y', but declared as int"),
        ("__int128 CONFIG_HZ", "no setting can be of the type that CONFIG_HZ is declared with"),
        ("int CONFIG_NOT_THERE[2]", "no setting can be of the type that CONFIG_NOT_THERE is declared with"),
        ("int CONFIG_NOT_THERE", "mistake asks for CONFIG_NOT_THERE, which"),
        ("int LINUX_NOT_THERE", "extern LINUX_NOT_THERE is no setting"),
        ("__weak int SOMETHING", "extern SOMETHING is no setting"),
    ],
)
def test_settings_of_wrong_types_and_names(
    made: Callable[[str], Object], declaration: str, message: str
) -> None:
    name = declaration.partition("[")[0].split()[-1]
    obj = made(SETTING % (declaration, name))
    with pytest.raises(TracebeeError, match=message):
        kconfig_values(obj, 16)


@pytest.mark.parametrize(
    ("declaration", "value"),
    [
        ("char CONFIG_BPF_SYSCALL", b"y"),
        ("bool CONFIG_BPF_SYSCALL", b"\1"),
        ("enum libbpf_tristate CONFIG_BPF_SYSCALL", b"\1\0\0\0"),
        ("__weak int LINUX_NOT_THERE", bytes(4)),
        ("__weak int CONFIG_NOT_THERE", bytes(4)),
    ],
)
def test_settings_that_are_right(made: Callable[[str], Object], declaration: str, value: bytes) -> None:
    obj = made(SETTING % (declaration, declaration.split()[-1]))
    assert kconfig_values(obj, len(value)) == value


def test_programs_that_call_programs(made: Callable[[str], Object]) -> None:
    obj = made(
        HEAD
        + """
SEC("socket") __noinline int other(struct __sk_buff *ctx) { return ctx->len; }
SEC("socket") int prog(struct __sk_buff *ctx) { return other(ctx) + 1; }
"""
    )
    with pytest.raises(DecodeError, match=r"prog calls other, which is a program \(section 'socket'\)"):
        build_image(obj, obj.programs[1])


def test_variables_in_other_sections(made: Callable[[str], Object]) -> None:
    with pytest.raises(DecodeError) as caught:
        made(HEAD + 'int v SEC("elsewhere") = 3; SEC("socket") int prog(void *ctx) { return v; }')
    assert "refers to 'v' in section 'elsewhere'" in caught.value.message
    assert ".data.mine" in (caught.value.hint or "")


@pytest.mark.needs("bpf")
@pytest.mark.parametrize(("slot", "section"), [(5, "socket"), (1, "raw_tp/sys_enter")])
def test_tail_calls_that_do_not_fit(made: Callable[[str], Object], slot: int, section: str) -> None:
    obj = made(
        HEAD
        + f"""
int tail(void *ctx);
struct {{
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, int);
	__uint(max_entries, 2);
	__array(values, int (void *));
}} m SEC(".maps") = {{ .values = {{ [{slot}] = (void *)&tail }} }};
SEC("{section}") int tail(void *ctx) {{ return 0; }}
SEC("socket") int prog(struct __sk_buff *ctx) {{ bpf_tail_call(ctx, &m, 1); return 0; }}
"""
    )
    with pytest.raises(KernelError, match=f"slot {slot} of map 'm' takes no program 'tail'"):
        load_object(obj)
