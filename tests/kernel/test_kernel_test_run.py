"""``BPF_PROG_TEST_RUN`` of every type of program that the kernel can run so, and its flags."""

from __future__ import annotations

import os
import struct

import pytest

from tracebee import uapi
from tracebee.errors import KernelError
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.obj.model import MapDef

pytestmark = pytest.mark.needs("bpf")

ONE = encode(assemble("r0 = 1\nexit"))
IPV4 = bytes(12) + b"\x08\0" + b"\x45" + bytes(49)
# struct bpf_sk_lookup: TCP from 127.0.0.1, port 80, to port 8080.
LOOKUP = struct.pack(
    "=QIII16sHHI16sII", 0, 2, 6, 0x0100007F, bytes(16), 80, 0, 0x0100007F, bytes(16), 8080, 0
)

RUNS = {
    "socket_filter": ({"data": IPV4, "data_out": 64}, 0, 0),
    "sched_cls": ({"data": IPV4, "data_out": 64, "ctx_out": 192}, 0, 0),
    "sched_act": ({"data": IPV4}, 0, 0),
    "cgroup_skb": ({"data": IPV4, "data_out": 64}, uapi.BPF_CGROUP_INET_INGRESS, 0),
    "lwt_in": ({"data": IPV4, "data_out": 64}, 0, 0),
    "lwt_out": ({"data": IPV4}, 0, 0),
    "lwt_xmit": ({"data": IPV4}, 0, 0),
    "xdp": (
        {"data": IPV4, "ctx": struct.pack("=6I", 0, 64, 0, 0, 0, 0), "ctx_out": 24, "data_out": 64},
        0,
        0,
    ),
    "flow_dissector": ({"data": IPV4, "data_out": 256}, uapi.BPF_FLOW_DISSECTOR, 0),
    "sk_lookup": ({"ctx": LOOKUP}, uapi.BPF_SK_LOOKUP, 0),
    "netfilter": ({"data": IPV4}, uapi.BPF_NETFILTER, 0),
    "raw_tracepoint": ({"ctx": bytes(16)}, 0, 0),
    "syscall": ({"ctx": b"abcd", "ctx_out": 4}, 0, uapi.BPF_F_SLEEPABLE),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_type(name: str) -> None:
    given, attach_type, flags = RUNS[name]
    kind = uapi.PROG_TYPES[name]
    with Program.load(ONE, kind, expected_attach_type=attach_type, flags=flags) as program:
        result = program.test_run(**given)  # type: ignore[arg-type]
    assert result.retval == 1
    # A flow dissector gives its keys (struct bpf_flow_keys), others the packet as it is afterwards.
    length = 56 if name == "flow_dissector" else 64
    assert len(result.data) == (length if "data_out" in given else 0)
    assert len(result.ctx) == given.get("ctx_out", 0)


def test_a_chosen_cpu() -> None:
    code = encode(assemble("call bpf_get_smp_processor_id\nexit"))
    with Program.load(code, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program:
        for cpu in os.sched_getaffinity(0):
            assert program.test_run(cpu=cpu, flags=uapi.BPF_F_TEST_RUN_ON_CPU).retval == cpu
        with pytest.raises(KernelError, match="there is no such CPU"):
            program.test_run(cpu=8191, flags=uapi.BPF_F_TEST_RUN_ON_CPU)


def test_live_frames() -> None:
    text = """
        *(u32 *)(r10 -4) = 0
        r1 = map[count]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
    out:
        r0 = 1
        exit
    """
    with Map.create(MapDef("count", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)) as count:
        code = encode(assemble(text, {"count": count.fd}))
        with Program.load(code, uapi.BPF_PROG_TYPE_XDP) as program:
            live = uapi.BPF_F_TEST_XDP_LIVE_FRAMES
            program.test_run(data=IPV4, repeat=100, flags=live, batch_size=16)  # all are dropped
            assert count.lookup(bytes(4)) == struct.pack("=Q", 100)
            with pytest.raises(KernelError, match="EINVAL"):
                program.test_run(data=IPV4, batch_size=16)  # a batch is of live frames
