"""Links as text: ``link show`` without ``-j``, in the lines that bpftool has for each type."""

from __future__ import annotations

from tracebee.report.inspect.output import holder_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Record = dict[str, Any]

# Netfilter's protocol families and, for those of the Internet protocol, its hooks.
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_ARP_HOOKS = ("input", "output")


def link_text(record: Record) -> str:
    """A record's lines, the first without and the others with a tab before them."""
    kind = record["type"]
    subject = f"map {record['map_id']}" if kind == "struct_ops" else f"prog {record['prog_id']}"
    head = f"{record['id']}: {kind}  {subject}  "
    if kind == "iter":
        return "\n\t".join([head + _words(record, *_ITERATOR), *_tail(record)])
    return "\n\t".join([head, *_LINES.get(kind, _plain)(record), *_tail(record)])


def netfilter_text(record: Record) -> str:
    """Where a netfilter program hooks in."""
    family, hook = record["pf"], record["hook"]
    hooks = {"arp": _ARP_HOOKS, "netdev": ()}.get(_FAMILIES.get(family, "netdev"), _HOOKS)
    name = _FAMILIES.get(family, f"pf: {family}")
    name += f" {hooks[hook]}" if hook < len(hooks) else f", hook {hook},"
    flags = f" flags {record['flags']:#x}" if record["flags"] else ""
    return f"{name} prio {record['prio']}{flags}"


def _tail(record: Record) -> list[str]:
    return [f"pinned {path}" for path in record.get("pinned", ())] + holder_lines(record)


def _words(record: Record, *names: str) -> str:
    """Fields that there are, each behind its name."""
    return "  ".join(f"{name} {record[name]}" for name in names if name in record)


_ITERATOR = ("target_name", "map_id", "tid", "pid", "cgroup_id", "order")


def _plain(record: Record) -> list[str]:
    shown = [name for name in record if name not in ("id", "type", "prog_id", "pids", "pinned")]
    return [_words(record, *shown)] if shown else []


def _raw_tracepoint(record: Record) -> list[str]:
    return [f"tp '{record['tp_name']}'  {_words(record, 'cookie')}".rstrip()]


def _tracing(record: Record) -> list[str]:
    lines = [_words(record, "prog_type", "attach_type", "cookie")]
    if record["target_obj_id"] or record["target_btf_id"]:
        lines.append(_words(record, "target_obj_id", "target_btf_id"))
    return lines


def _device(record: Record) -> list[str]:
    number, name = record["ifindex"], record["devname"]
    shown = name if name.startswith("(") else f"{name}({number})"
    return [f"ifindex {shown}  {_words(record, 'attach_type')}".rstrip()]


def _kprobe_multi(record: Record) -> list[str]:
    kind = "kretprobe.multi" if record["retprobe"] else "kprobe.multi"
    missed = f"  missed {record['missed']}" if record["missed"] else ""
    lines = [f"{kind}  func_cnt {record['func_cnt']}{missed}"]
    functions = record.get("funcs", ())
    if functions:
        lines.append(f"{'addr':<16} {'cookie':<16} func [module]")
    for function in functions:
        module = f" [{function['module']}]" if function["module"] else ""
        lines.append(f"{function['addr']:016x} {function['cookie']:<16x} {function['func']}{module}")
    return lines


def _uprobe_multi(record: Record) -> list[str]:
    kind = "uretprobe.multi" if record["retprobe"] else "uprobe.multi"
    pid = f"  pid {record['pid']}" if record["pid"] else ""
    lines = [
        f"{kind}  path {record['path']}  func_cnt {record['func_cnt']}{pid}",
        f"{'offset':<16}   {'ref_ctr_offset':<16}   cookies",
    ]
    lines += [
        f"0x{row['offset']:<16x} 0x{row['ref_ctr_offset']:<16x} 0x{row['cookie']:x}"
        for row in record["funcs"]
    ]
    return lines


def _perf_event(record: Record) -> list[str]:
    kind = record["event"]
    if kind == "event":
        number = record["event_type"]
        line = f"event {number}:" if isinstance(number, str) else f"event {number} :"
        line += str(record["event_config"])
    elif kind == "tracepoint":
        line = f"tracepoint {record['tracepoint']}"
    elif kind in ("uprobe", "uretprobe"):
        line = f"{kind} {record['file']}+{record['offset']:#x}"
    elif kind in ("kprobe", "kretprobe"):
        address = f"{record['addr']:x} " if record["addr"] else ""
        offset = f"+{record['offset']:#x}" if record["offset"] else ""
        missed = f"  missed {record['missed']}" if record["missed"] else ""
        line = f"{kind} {address}{record['func']}{offset}{missed}"
    else:
        return []
    return [line + (f"  cookie {record['cookie']}" if record["cookie"] else "")]


_LINES: dict[str, Callable[[Record], list[str]]] = {
    "raw_tracepoint": _raw_tracepoint,
    "tracing": _tracing,
    "xdp": _device,
    "tcx": _device,
    "netkit": _device,
    "netfilter": lambda record: [netfilter_text(record)],
    "struct_ops": lambda _record: [],
    "kprobe_multi": _kprobe_multi,
    "uprobe_multi": _uprobe_multi,
    "perf_event": _perf_event,
}
