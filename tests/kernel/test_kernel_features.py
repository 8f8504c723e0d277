"""Probing: what it says of this kernel, beside what bpftool and the kernel's own files say."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.errors import PrivilegeError
from tracebee.isa.helpers import BY_NAME
from tracebee.kernel import features, privileges, type_probes
from tracebee.kernel.syscall import stand_in
from tracebee.kernel.type_probes import has_helper, has_map_type, has_program_type


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, object]]:
    """bpftool's own probing, full of helpers."""
    out = subprocess.run(["bpftool", "feature", "probe", "-j"], capture_output=True, check=True)
    return json.loads(out.stdout)  # type: ignore[no-any-return]


@pytest.mark.needs("bpf", "bpftool")
def test_types_as_bpftool_finds_them(reference: dict[str, dict[str, bool]]) -> None:
    for short, number in uapi.MAP_TYPES.items():
        known = reference["map_types"].get(f"have_{short}_map_type")
        assert known is None or has_map_type(number) == known, short
    for short, number in uapi.PROG_TYPES.items():
        known = reference["program_types"].get(f"have_{short}_prog_type")
        # This bpftool expects words of the verifier that newer kernels changed for tracing.
        if known is not None and short != "tracing":
            assert has_program_type(number) == known, short


# From the prototypes' switches in kernel/trace/bpf_trace.c and net/core/filter.c; bpftool 7.1 is no
# reference here, since it takes newer kernels' refusal ("program of this type cannot use") for consent.
HELPER_FACTS = {
    "kprobe": (
        "get_attach_cookie get_func_ip probe_read_kernel ringbuf_output",
        "csum_diff xdp_adjust_head redirect",
    ),
    "tracepoint": ("get_attach_cookie get_stackid perf_event_output", "get_func_ip skb_load_bytes redirect"),
    "perf_event": ("perf_prog_read_value get_attach_cookie", "get_func_ip skb_store_bytes"),
    "socket_filter": ("skb_load_bytes get_socket_uid ktime_get_ns", "skb_store_bytes get_stackid redirect"),
    "xdp": ("xdp_adjust_head redirect csum_diff", "get_stackid skb_load_bytes get_socket_uid"),
    "sched_cls": ("skb_store_bytes redirect csum_diff clone_redirect", "get_stackid xdp_adjust_head"),
}


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("short", HELPER_FACTS)
def test_helpers_of_program_types(short: str) -> None:
    present, absent = (names.split() for names in HELPER_FACTS[short])
    for name in present:
        assert has_helper(uapi.PROG_TYPES[short], BY_NAME[name].number), name
    for name in absent:
        assert not has_helper(uapi.PROG_TYPES[short], BY_NAME[name].number), name
    assert not has_helper(uapi.PROG_TYPES[short], 100000)


@pytest.mark.needs("bpf")
def test_every_feature_has_an_answer() -> None:
    answers = {feature.name: features.has(feature.name) for feature in features.FEATURES}
    assert len(answers) == len(features.FEATURES)
    assert answers["kprobe"] == os.path.exists("/sys/bus/event_source/devices/kprobe")
    assert answers["btf"]
    assert answers["ringbuf"]


@pytest.mark.needs("bpf")
def test_attach_features_as_the_kernels_functions_say() -> None:
    btf = Btf.vmlinux()
    for feature, function in (
        ("uprobe_multi", "bpf_uprobe_multi_link_attach"),
        ("kprobe_multi", "bpf_kprobe_multi_link_attach"),
        ("perf_link", "bpf_perf_link_attach"),
        ("map_batch", "generic_map_lookup_batch"),
    ):
        assert features.has(feature) <= bool(btf.find_all(function)), feature
    assert features.has("perf_link")
    assert features.has("map_batch")


@pytest.mark.needs("fentry")
def test_fentry_is_found_where_it_works() -> None:
    assert features.has("fentry")
    assert features.has("tracing_cookie")


@pytest.mark.needs("kprobe_multi")
def test_kprobe_multi_is_found_where_it_works() -> None:
    assert features.has("kprobe_multi")


def test_refusal_is_not_taken_for_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: 0)
    type_probes.has_map_type.cache_clear()
    try:
        with stand_in(lambda name, args: -1), pytest.raises(PrivilegeError):
            has_map_type(uapi.BPF_MAP_TYPE_HASH)
    finally:
        type_probes.has_map_type.cache_clear()


def test_unknown_feature() -> None:
    with pytest.raises(KeyError):
        features.has("teleportation")
