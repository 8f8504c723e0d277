"""``tracebee net``, ``cgroup``, ``struct_ops``, ``iter`` and ``batch``, beside bpftool."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracebee import uapi
from tracebee.cli.main import guarded
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel.link import Link
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.obj.model import MapDef

pytestmark = [pytest.mark.needs("bpf", "bpftool")]

Ask = Callable[..., str]
PASS = encode(assemble("r0 = 2\nexit"))
ALLOW = encode(assemble("r0 = 1\nexit"))


def bpftool(*words: object) -> Any:
    command = ["bpftool", "-j", *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def number(program: Program) -> int:
    return program.info().id


@pytest.mark.usefixtures("network")
def test_xdp_programs_of_a_device(ask: Ask, fail: Ask) -> None:
    with (
        Program.load(PASS, uapi.BPF_PROG_TYPE_XDP, name="one") as one,
        Program.load(PASS, uapi.BPF_PROG_TYPE_XDP, name="other") as other,
    ):
        ask("net", "attach", "xdpgeneric", "id", number(one), "dev", "lo")
        expected = {"devname": "lo", "ifindex": 1, "mode": "generic", "id": number(one)}
        assert json.loads(ask("net", "-j"))[0]["xdp"] == [expected] == bpftool("net")[0]["xdp"]
        assert f"xdp:\nlo(1) generic id {number(one)}\n" in ask("net", "show", "dev", "lo")
        refused = fail("net", "attach", "xdpgeneric", "id", number(other), "dev", "lo")
        assert refused == "ERROR: netlink: XDP program already attached (EBUSY)\n"
        assert ask("net", "attach", "xdpgeneric", number(other), "dev", "lo", "overwrite", "-j") == "null\n"
        assert json.loads(ask("net", "-j"))[0]["xdp"][0]["id"] == number(other)
        ask("net", "detach", "xdpgeneric", "dev", "lo")
        assert json.loads(ask("net", "-j"))[0]["xdp"] == []
        assert "there is no network device 'lo0'\n  hint: did you mean 'lo'?" in fail(
            "net", "detach", "xdp", "dev", "lo0"
        )
        assert "programs cannot be attached by 'tc' here" in fail("net", "attach", "tc", "id", 1, "dev", "lo")


@pytest.mark.usefixtures("network")
def test_programs_in_the_way_of_packets(ask: Ask, fail: Ask) -> None:
    with (
        Program.load(
            PASS, uapi.BPF_PROG_TYPE_SCHED_CLS, name="in", expected_attach_type=uapi.BPF_TCX_INGRESS
        ) as arriving,
        Program.load(
            PASS, uapi.BPF_PROG_TYPE_SCHED_CLS, name="out", expected_attach_type=uapi.BPF_TCX_EGRESS
        ) as leaving,
        Link.create(leaving.fd, 1, uapi.BPF_TCX_EGRESS) as link,
    ):
        ask("net", "attach", "tcx_ingress", "id", number(arriving), "dev", "lo")
        head = {"devname": "lo", "ifindex": 1}
        rest = {"prog_flags": [], "link_id": 0, "link_flags": []}
        assert json.loads(ask("net", "-j"))[0]["tc"] == [
            {**head, "kind": "tcx/ingress", "name": "in", "prog_id": number(arriving), **rest},
            {
                **head,
                "kind": "tcx/egress",
                "name": "out",
                "prog_id": number(leaving),
                **rest,
                "link_id": link.info().id,
            },
        ]
        text = ask("net")
        assert f"lo(1) tcx/ingress in prog_id {number(arriving)}\n" in text
        assert f"lo(1) tcx/egress out prog_id {number(leaving)} link_id {link.info().id}\n" in text
        ask("net", "detach", "tcx_ingress", "dev", "lo")
        assert [row["kind"] for row in json.loads(ask("net", "-j"))[0]["tc"]] == ["tcx/egress"]
        assert "ENOENT" in fail("net", "detach", "tcx_ingress", "dev", "lo")


@pytest.mark.needs("iproute2")
@pytest.mark.usefixtures("network")
def test_both_ends_of_a_veth(ask: Ask, bpffs: str) -> None:
    subprocess.run(["ip", "link", "add", "left", "type", "veth", "peer", "name", "right"], check=True)
    place = bpffs.replace("self", str(os.getpid()))
    with (
        Program.load(PASS, uapi.BPF_PROG_TYPE_XDP, name="native") as native,
        Program.load(
            encode(assemble("r0 = 0\nexit")), uapi.BPF_PROG_TYPE_SCHED_CLS, name="classic"
        ) as classic,
    ):
        classic.pin(f"{place}/classic")
        subprocess.run(["tc", "qdisc", "add", "dev", "right", "clsact"], check=True)
        command = ["tc", "filter", "add", "dev", "right", "egress", "bpf", "da", "object-pinned"]
        subprocess.run([*command, f"{place}/classic"], check=True)
        ask("net", "attach", "xdpdrv", "id", number(native), "dev", "left")
        ours, theirs = json.loads(ask("net", "-j"))[0], bpftool("net")[0]
        assert [(row["devname"], row["mode"], row["id"]) for row in ours["xdp"]] == [
            ("left", "driver", number(native))
        ]
        assert [(row["devname"], row["kind"], row["id"]) for row in ours["tc"]] == [
            ("right", "clsact/egress", number(classic))
        ]
        assert (ours["xdp"], ours["tc"]) == (theirs["xdp"], theirs["tc"])
        right = socket.if_nametoindex("right")
        assert f"\nright({right}) clsact/egress classic:[*fsobj] id {number(classic)}\n" in ask("net")
        assert json.loads(ask("net", "show", "dev", "left", "-j"))[0]["tc"] == []
        ask("net", "detach", "xdpdrv", "dev", "left")
        assert json.loads(ask("net", "-j"))[0]["xdp"] == []


@pytest.mark.usefixtures("network")
def test_what_belongs_to_the_namespace(ask: Ask) -> None:
    with (
        Program.load(
            ALLOW, uapi.BPF_PROG_TYPE_NETFILTER, name="hook", expected_attach_type=uapi.BPF_NETFILTER
        ) as hook,
        Program.load(
            PASS, uapi.BPF_PROG_TYPE_FLOW_DISSECTOR, expected_attach_type=uapi.BPF_FLOW_DISSECTOR
        ) as flow,
        Link.create(
            hook.fd, 0, uapi.BPF_NETFILTER, netfilter_pf=2, netfilter_hooknum=1, netfilter_priority=-9
        ) as link,
    ):
        flow.attach(0, uapi.BPF_FLOW_DISSECTOR)
        try:
            record = json.loads(ask("net", "-j"))[0]
            text = ask("net")
        finally:
            flow.detach_from(0, uapi.BPF_FLOW_DISSECTOR)
        assert record["flow_dissector"] == [{"id": number(flow)}]
        ours = {"pf": 2, "hook": 1, "prio": -9, "flags": 0, "id": number(hook)}
        assert ours in record["netfilter"]
        assert f"\tip input prio -9 prog_id {number(hook)}\n" in text
        assert ask("link", "show", "id", link.info().id).endswith("\tip input prio -9\n")


def test_control_groups(ask: Ask, fail: Ask, group: Path) -> None:
    with (
        Program.load(
            ALLOW,
            uapi.BPF_PROG_TYPE_CGROUP_SKB,
            name="a_long_name_cut",
            expected_attach_type=uapi.BPF_CGROUP_INET_EGRESS,
        ) as skb,
        Program.load(
            ALLOW, uapi.BPF_PROG_TYPE_CGROUP_DEVICE, expected_attach_type=uapi.BPF_CGROUP_DEVICE, name="dev"
        ) as device,
    ):
        ask("cgroup", "attach", group, "egress", "id", number(skb), "multi")
        ask("cgroup", "attach", group, "cgroup_device", "id", number(device))
        ours, theirs = json.loads(ask("cgroup", "show", group, "-j")), bpftool("cgroup", "show", group)
        assert [(row["id"], row["attach_type"], row["attach_flags"], row["name"]) for row in ours] == [
            (number(skb), "cgroup_inet_egress", "multi", "a_long_name_cut"),
            (number(device), "cgroup_device", "", "dev"),
        ]
        # bpftool 7.1 calls some attach types by other names, and does not know all that this kernel has.
        assert [row["id"] for row in theirs] == [row["id"] for row in ours]
        assert ask("cgroup", "list", group).splitlines()[0].split() == [
            "ID", "AttachType", "AttachFlags", "Name",
        ]  # fmt: skip
        assert json.loads(ask("cgroup", "show", group / "below", "-j")) == []
        assert ask("cgroup", "show", group / "below") == ""
        below = json.loads(ask("cgroup", "show", group / "below", "effective", "-j"))
        assert number(skb) in [row["id"] for row in below]
        tree = json.loads(ask("cgroup", "tree", group, "-j"))
        assert [(row["cgroup"], len(row["programs"])) for row in tree] == [(str(group), 2)]
        assert f"\n{group}\n    {number(skb)} " in ask("cgroup", "tree", group)
        assert "there is no attach type" not in ask(
            "cgroup", "detach", group, "cgroup_device", number(device)
        )
        ask("cgroup", "detach", group, "cgroup_inet_egress", number(skb), "-j")
        assert json.loads(ask("cgroup", "tree", group, "-j")) == []
        assert "control groups have no attach type 'egres'" in fail(
            "cgroup", "attach", group, "egres", number(skb)
        )
    assert "cannot open control group '/nowhere'" in fail("cgroup", "show", "/nowhere")
    said = "bpf(BPF_PROG_QUERY) of '/tmp' failed: it is no control group of a cgroup2 file system (EBADF)"
    assert said in fail("cgroup", "show", "/tmp")


@pytest.mark.needs("clang", "tcp_struct_ops")
def test_kernel_structs(ask: Ask, fail: Ask, compiled: Callable[[str], str], bpffs: str) -> None:
    path = compiled("struct_ops")
    assert "'linked' is registered by a link, which would end with this command" in fail(
        "struct_ops", "register", path
    )
    said = ask("struct_ops", "register", path, f"{bpffs}/ops").splitlines()
    try:
        assert [line.rpartition(" id ")[0].split()[:3] for line in said] == [
            ["Registered", "tcp_congestion_ops", "plain"],
            ["Registered", "tcp_congestion_ops", "linked"],
        ]
        plain = int(said[0].split()[-1])
        listed = json.loads(ask("struct_ops", "-j"))
        assert {"id": plain, "name": "plain", "kernel_struct_ops": "tcp_congestion_ops"} in listed
        about, value = json.loads(ask("struct_ops", "dump", "id", plain, "-j"))
        assert about["bpf_map_info"]["name"] == "plain"
        held = value["bpf_struct_ops_tcp_congestion_ops"]
        assert held["data"]["name"] == "bee_plain"
        assert held["data"]["ssthresh"].startswith("u32 (struct sock *) threshold/prog_id:")
        assert held["data"]["release"] == "void (struct sock *) 0"
        assert held["common"]["state"] == "BPF_STRUCT_OPS_STATE_INUSE"
        assert value in bpftool("struct_ops", "dump")
        assert os.listdir(f"{bpffs}/ops") == ["linked"]
        assert "'linked' is registered by a link" in fail("struct_ops", "unregister", "name", "linked")
    finally:
        assert "Unregistered tcp_congestion_ops plain" in ask("struct_ops", "unregister", "name", "plain")
        os.unlink(f"{bpffs}/ops/linked")
    assert "there is no struct_ops map with the name 'plain'" in fail("struct_ops", "show", "name", "plain")
    with Map.create(MapDef("no_ops", uapi.BPF_MAP_TYPE_ARRAY, 4, 4, 1)) as table:
        assert "is no struct_ops map" in fail("struct_ops", "show", "id", table.info().id)


ITERATOR = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("iter/bpf_map_elem") int walk(struct { void *meta, *map, *key, *value; } *ctx)
{
	struct { void *seq; } *meta = ctx->meta;
	if (ctx->key)
		bpf_seq_write(meta->seq, ctx->key, 4);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.needs("clang")
def test_iterators(ask: Ask, fail: Ask, compiled: Callable[[str], str], bpffs: str, tmp_path: Path) -> None:
    source, target = tmp_path / "walk.bpf.c", tmp_path / "walk.bpf.o"
    source.write_text(ITERATOR)
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", include, "-c", source, "-o", target], check=True)
    with Map.create(MapDef("walked", uapi.BPF_MAP_TYPE_HASH, 4, 4, 2)) as table:
        table.update(b"beep", bytes(4))
        ask("iter", "pin", target, f"{bpffs}/walk", "map", "id", table.info().id)
        assert Path(f"{bpffs}/walk").read_bytes() == b"beep"
    os.unlink(f"{bpffs}/walk")
    assert "is no iterator: its section is 'raw_tracepoint/sys_enter'" in fail(
        "iter", "pin", compiled("admin"), f"{bpffs}/x"
    )


def test_batches(ask: Ask, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with Map.create(MapDef("batched", uapi.BPF_MAP_TYPE_HASH, 4, 4, 2)) as table:
        own = table.info().id
        file = tmp_path / "commands"
        file.write_text(
            f"# two updates\nmap update id {own} key 1 0 0 0 \\\n  value 1 2 3 4\n\n"
            f"map lookup id {own} key 1 0 0 0  # and a look\n"
        )
        assert ask("batch", "file", file) == "key: 01 00 00 00  value: 01 02 03 04\nprocessed 2 commands\n"
        first, second = json.loads(ask("batch", "file", file, "-j"))
        assert first == {
            "command": f"map update id {own} key 1 0 0 0 value 1 2 3 4".split(),
            "output": None,
        }
        assert second["output"]["value"] == ["0x01", "0x02", "0x03", "0x04"]
        file.write_text(f"map lookup id {own} key 9 0 0 0\nmap delete id {own} key 1 0 0 0\n")
        assert guarded(["batch", "file", str(file)]) == 1
        assert "the map has no key 09 00 00 00" in capfd.readouterr().err
        assert table.lookup(b"\1\0\0\0") == b"\1\2\3\4"  # the first failure ends it
        file.write_text("feature \\\n")
        assert guarded(["batch", "file", str(file)]) == 1
        assert "the last line goes on behind its end" in capfd.readouterr().err
