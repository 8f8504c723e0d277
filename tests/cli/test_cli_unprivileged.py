"""The administration commands without privileges: what stands in the way is named, and nothing is guessed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.needs("unprivileged")


def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-m",
        "tracebee",
    ]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "call", "hint"),
    [
        (("prog",), "bpf(BPF_PROG_GET_NEXT_ID)", "run as root, or give it CAP_SYS_ADMIN"),
        (("map",), "bpf(BPF_MAP_GET_NEXT_ID)", "run as root, or give it CAP_SYS_ADMIN"),
        (("link",), "bpf(BPF_LINK_GET_NEXT_ID)", "run as root, or give it CAP_SYS_ADMIN"),
        (
            ("map", "show", "id", "1"),
            "bpf(BPF_MAP_GET_FD_BY_ID) of map 1",
            "run as root, or give it CAP_SYS_ADMIN",
        ),
        (("prog", "stats"), "bpf(BPF_ENABLE_STATS)", "run as root, or give it CAP_SYS_ADMIN"),
    ],
)
def test_missing_capability_is_named(words: tuple[str, ...], call: str, hint: str) -> None:
    done = as_nobody(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"ERROR: {call} is not permitted\n  hint: {hint}\n"


@pytest.mark.needs("bpf")
def test_what_cannot_be_found_out_is_unknown() -> None:
    done = as_nobody("feature", "features", "-j")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)["features"]
    assert answers["btf"] is True
    for name in (
        "ringbuf",
        "isa_v2",
        "mmapable",
        "fentry",
        "large_programs",
        "kprobe_multi",
        "sleepable_uprobe",
    ):
        assert answers[name] is None, name
    done = as_nobody("feature", "limits", "maps")
    assert done.returncode == 0
    assert "program_length                unknown" in done.stdout
    assert "bpf(BPF_MAP_CREATE) is not permitted" in done.stdout
