"""What an ELF section's name says of the programs in it: libbpf's conventions.

``kprobe+`` stands for ``kprobe`` alone and for ``kprobe/...``; a name without ``+`` matches as it is.
Source: Linux ``Documentation/bpf/libbpf/program_types.rst``, and libbpf 1.5 for what came after.
"""

from __future__ import annotations

from tracebee import uapi
from tracebee.typed import NamedTuple
from tracebee.uapi import BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS


class SectionKind(NamedTuple):
    """One row of the table: program type, attach type and load flags of a section name.

    ``target`` says that what follows the slash names a kernel type or function by its BTF.
    """

    pattern: str
    type: int
    attach_type: int = 0
    flags: int = 0
    target: bool = False


def _rows() -> tuple[SectionKind, ...]:
    t, a = uapi.PROG_TYPES, uapi.ATTACH_TYPES
    kprobe, tracing, lsm, xdp = t["kprobe"], t["tracing"], t["lsm"], t["xdp"]
    sleep = BPF_F_SLEEPABLE
    rows = [
        SectionKind("socket", t["socket_filter"]),
        SectionKind(
            "sk_reuseport/migrate",
            t["sk_reuseport"],
            uapi.BPF_SK_REUSEPORT_SELECT_OR_MIGRATE,
        ),
        SectionKind("sk_reuseport", t["sk_reuseport"], uapi.BPF_SK_REUSEPORT_SELECT),
        *(SectionKind(f"{n}+", kprobe) for n in ("kprobe", "uprobe", "kretprobe", "uretprobe")),
        *(SectionKind(f"{n}.s+", kprobe, 0, sleep) for n in ("uprobe", "uretprobe")),
        *(SectionKind(f"{n}.multi+", kprobe, uapi.BPF_TRACE_KPROBE_MULTI) for n in ("kprobe", "kretprobe")),
        SectionKind("kprobe.session+", kprobe, uapi.BPF_TRACE_KPROBE_SESSION),
        *(
            SectionKind(f"{n}.multi{s}+", kprobe, uapi.BPF_TRACE_UPROBE_MULTI, sleep if s else 0)
            for n in ("uprobe", "uretprobe")
            for s in ("", ".s")
        ),
        SectionKind("uprobe.session+", kprobe, uapi.BPF_TRACE_UPROBE_SESSION),
        SectionKind("uprobe.session.s+", kprobe, uapi.BPF_TRACE_UPROBE_SESSION, sleep),
        *(SectionKind(f"{n}+", kprobe) for n in ("ksyscall", "kretsyscall", "usdt")),
        SectionKind("usdt.s+", kprobe, 0, sleep),
        SectionKind("tcx/ingress", t["sched_cls"], uapi.BPF_TCX_INGRESS),
        SectionKind("tcx/egress", t["sched_cls"], uapi.BPF_TCX_EGRESS),
        SectionKind("tc/ingress", t["sched_cls"], uapi.BPF_TCX_INGRESS),
        SectionKind("tc/egress", t["sched_cls"], uapi.BPF_TCX_EGRESS),
        *(SectionKind(n, t["sched_cls"]) for n in ("tc", "classifier")),
        SectionKind("action", t["sched_act"]),
        SectionKind("netkit/primary", t["sched_cls"], uapi.BPF_NETKIT_PRIMARY),
        SectionKind("netkit/peer", t["sched_cls"], uapi.BPF_NETKIT_PEER),
        *(SectionKind(f"{n}+", t["tracepoint"]) for n in ("tracepoint", "tp")),
        *(SectionKind(f"{n}+", t["raw_tracepoint"]) for n in ("raw_tracepoint", "raw_tp")),
        *(SectionKind(f"{n}.w+", t["raw_tracepoint_writable"]) for n in ("raw_tracepoint", "raw_tp")),
        SectionKind("tp_btf+", tracing, uapi.BPF_TRACE_RAW_TP, 0, True),
        *(
            SectionKind(f"{n}{s}+", tracing, at, sleep if s else 0, True)
            for n, at in (
                ("fentry", uapi.BPF_TRACE_FENTRY),
                ("fmod_ret", uapi.BPF_MODIFY_RETURN),
                ("fexit", uapi.BPF_TRACE_FEXIT),
                ("iter", uapi.BPF_TRACE_ITER),
            )
            for s in ("", ".s")
        ),
        SectionKind("freplace+", t["ext"], 0, 0, True),
        SectionKind("lsm+", lsm, uapi.BPF_LSM_MAC, 0, True),
        SectionKind("lsm.s+", lsm, uapi.BPF_LSM_MAC, sleep, True),
        SectionKind("lsm_cgroup+", lsm, uapi.BPF_LSM_CGROUP, 0, True),
        SectionKind("syscall", t["syscall"], 0, sleep),
        *(
            SectionKind(f"xdp{f}{where}", xdp, at, BPF_F_XDP_HAS_FRAGS if f else 0)
            for f in (".frags", "")
            for where, at in (
                ("/devmap", uapi.BPF_XDP_DEVMAP),
                ("/cpumap", uapi.BPF_XDP_CPUMAP),
                ("", uapi.BPF_XDP),
            )
        ),
        SectionKind("perf_event", t["perf_event"]),
        *(SectionKind(n, t[n]) for n in ("lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local")),
        SectionKind("sockops", t["sock_ops"], uapi.BPF_CGROUP_SOCK_OPS),
        SectionKind("sk_skb/stream_parser", t["sk_skb"], uapi.BPF_SK_SKB_STREAM_PARSER),
        SectionKind("sk_skb/stream_verdict", t["sk_skb"], uapi.BPF_SK_SKB_STREAM_VERDICT),
        SectionKind("sk_skb/verdict", t["sk_skb"], uapi.BPF_SK_SKB_VERDICT),
        SectionKind("sk_skb", t["sk_skb"]),
        SectionKind("sk_msg", t["sk_msg"], uapi.BPF_SK_MSG_VERDICT),
        SectionKind("lirc_mode2", t["lirc_mode2"], uapi.BPF_LIRC_MODE2),
        SectionKind("flow_dissector", t["flow_dissector"], uapi.BPF_FLOW_DISSECTOR),
        SectionKind("cgroup_skb/ingress", t["cgroup_skb"], uapi.BPF_CGROUP_INET_INGRESS),
        SectionKind("cgroup_skb/egress", t["cgroup_skb"], uapi.BPF_CGROUP_INET_EGRESS),
        SectionKind("cgroup/skb", t["cgroup_skb"]),
        SectionKind("cgroup/sock_create", t["cgroup_sock"], uapi.BPF_CGROUP_INET_SOCK_CREATE),
        SectionKind("cgroup/sock_release", t["cgroup_sock"], uapi.BPF_CGROUP_INET_SOCK_RELEASE),
        SectionKind("cgroup/sock", t["cgroup_sock"], uapi.BPF_CGROUP_INET_SOCK_CREATE),
        *(
            SectionKind(f"cgroup/post_bind{v}", t["cgroup_sock"], a[f"cgroup_inet{v}_post_bind"])
            for v in "46"
        ),
        *(
            SectionKind(f"cgroup/{n}{v}", t["cgroup_sock_addr"], a[f"cgroup_{family}{v}_{n}"])
            for family, names in (
                ("inet", ("bind", "connect", "getpeername", "getsockname")),
                ("udp", ("sendmsg", "recvmsg")),
            )
            for n in names
            for v in "46"
        ),
        *(
            SectionKind(f"cgroup/{n}_unix", t["cgroup_sock_addr"], a[f"cgroup_unix_{n}"])
            for n in ("connect", "sendmsg", "recvmsg", "getpeername", "getsockname")
        ),
        SectionKind("cgroup/sysctl", t["cgroup_sysctl"], uapi.BPF_CGROUP_SYSCTL),
        SectionKind("cgroup/getsockopt", t["cgroup_sockopt"], uapi.BPF_CGROUP_GETSOCKOPT),
        SectionKind("cgroup/setsockopt", t["cgroup_sockopt"], uapi.BPF_CGROUP_SETSOCKOPT),
        SectionKind("cgroup/dev", t["cgroup_device"], uapi.BPF_CGROUP_DEVICE),
        SectionKind("struct_ops+", t["struct_ops"]),
        SectionKind("struct_ops.s+", t["struct_ops"], 0, sleep),
        SectionKind("sk_lookup", t["sk_lookup"], uapi.BPF_SK_LOOKUP),
        SectionKind("netfilter", t["netfilter"], uapi.BPF_NETFILTER),
    ]
    return tuple(rows)


SECTIONS = _rows()


def section_kind(name: str) -> SectionKind | None:
    """The row for a section name; a leading ``?`` (do not load by default) is not looked at."""
    name = name.removeprefix("?")
    for row in SECTIONS:
        if row.pattern.endswith("+"):
            plain = row.pattern[:-1]
            if name == plain or name.startswith(f"{plain}/"):
                return row
        elif name == row.pattern:
            return row
    return None
