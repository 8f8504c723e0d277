"""What the running kernel offers to BPF programs: the sections of ``tracebee feature``.

JSON keys are bpftool's where it has the same thing (``have_hash_map_type`` and so on).
"""

from __future__ import annotations

import os
import textwrap

from tracebee import uapi
from tracebee.errors import PrivilegeError
from tracebee.isa.helpers import HELPERS
from tracebee.kernel import features, limits, privileges, type_probes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracebee.btf.reader import Btf

_MISC = {
    "large_programs": "have_large_insn_limit",
    "bounded_loops": "have_bounded_loops",
    "isa_v2": "have_v2_isa_extension",
    "isa_v3": "have_v3_isa_extension",
}
# Options of the kernel's configuration that BPF and tracing depend on.
_OPTIONS = "BPF BPF_SYSCALL HAVE_EBPF_JIT BPF_JIT BPF_JIT_ALWAYS_ON BPF_UNPRIV_DEFAULT_OFF BPF_LSM"
_OPTIONS += " DEBUG_INFO_BTF DEBUG_INFO_BTF_MODULES CGROUPS CGROUP_BPF CGROUP_NET_CLASSID SOCK_CGROUP_DATA"
_OPTIONS += " BPF_EVENTS KPROBE_EVENTS UPROBE_EVENTS TRACING FTRACE_SYSCALLS DYNAMIC_FTRACE_WITH_DIRECT_CALLS"
_OPTIONS += " FPROBE FUNCTION_ERROR_INJECTION BPF_KPROBE_OVERRIDE NET XDP_SOCKETS LWTUNNEL_BPF NET_ACT_BPF"
_OPTIONS += " NET_CLS_BPF NET_CLS_ACT NET_SCH_INGRESS NETKIT NETFILTER_BPF_LINK XFRM IP_ROUTE_CLASSID"
_OPTIONS += " IPV6_SEG6_BPF BPF_LIRC_MODE2 BPF_STREAM_PARSER NETFILTER_XT_MATCH_BPF TEST_BPF HZ"
_NOT_TOLD = "(? or unknown: only a privileged process can find out)"
# Trying these makes the kernel warn in its log, so that they are not tried for a listing.
_LOUD = ("trace_printk", "trace_vprintk", "probe_write_user")


def system() -> dict[str, Any]:
    """Settings that bound what BPF may do."""
    record: dict[str, Any] = {
        "release": os.uname().release,
        "machine": os.uname().machine,
        "lockdown": privileges.lockdown() or "unknown",
    }
    for path, _ in limits.SETTINGS:
        value = privileges.setting(path)
        if value is not None:
            record[path.rpartition("/")[2]] = int(value) if value.lstrip("-").isdigit() else value
    from tracebee.engine.kernel.kconfig import read_config

    config = read_config()
    if config is not None:
        record.update({f"CONFIG_{name}": config.get(f"CONFIG_{name}") for name in _OPTIONS.split()})
    return record


def system_text(record: dict[str, Any]) -> list[str]:
    """The settings, each with what its value means."""
    about = {path.rpartition("/")[2]: (path.replace("/", "."), text) for path, text in limits.SETTINGS}
    lines = [f"{name}: {record[name]}" for name in ("release", "machine", "lockdown")]
    for name, value in record.items():
        if name in about:
            lines.append(f"{about[name][0]} = {value}  ({about[name][1]})")
    config = {name: value for name, value in record.items() if name.startswith("CONFIG_")}
    for title, chosen in (
        ("built with", [f"{n[7:]}={v}" for n, v in config.items() if v is not None]),
        ("built without", [n[7:] for n, v in config.items() if v is None]),
    ):
        if chosen:
            lines += textwrap.wrap(f"{title} CONFIG_: {' '.join(chosen)}", 100, subsequent_indent="    ")
    return lines


def program_types() -> dict[str, bool]:
    """Program types by name, and whether they can be loaded."""
    return _types(uapi.PROG_TYPES, type_probes.has_program_type, "prog")


def map_types() -> dict[str, bool]:
    """Map types by name, and whether they can be made."""
    return _types(uapi.MAP_TYPES, type_probes.has_map_type, "map")


def types_text(record: dict[str, bool]) -> list[str]:
    """Types, one a line, those that are missing said so."""
    names = {
        key.removeprefix("have_").rpartition("_")[0].rpartition("_")[0]: has for key, has in record.items()
    }
    return [f"{name}{'' if has else '  (not available)'}" for name, has in names.items()]


def _types(table: dict[str, int], probe: Callable[[int], bool], what: str) -> dict[str, bool]:
    return {f"have_{name}_{what}_type": probe(number) for name, number in table.items() if number}


def helpers(program_type: str = "", *, loud: bool = False) -> dict[str, list[str]]:
    """Helpers that each program type may call, or one type's.

    :param loud: try also those that make the kernel write to its log.
    :raises UsageError: there is no such type.
    """
    if program_type and program_type not in uapi.PROG_TYPES:
        from tracebee.errors import UsageError
        from tracebee.suggest import did_you_mean

        hint = did_you_mean(program_type, uapi.PROG_TYPES, count=1) or ", ".join(uapi.PROG_TYPES)
        raise UsageError(f"there is no program type '{program_type}'", hint=hint)
    chosen = [program_type] if program_type else [name for name, number in uapi.PROG_TYPES.items() if number]
    return {
        f"{name}_available_helpers": [
            f"bpf_{helper.name}"
            for helper in HELPERS
            if (loud or helper.name not in _LOUD)
            and type_probes.has_helper(uapi.PROG_TYPES[name], helper.number)
        ]
        for name in chosen
    }


def helpers_text(record: dict[str, list[str]]) -> list[str]:
    """Every helper's prototype, what it is for, and the program types that may call it."""
    from tracebee.kernel.helper_texts import HELPER_TEXTS

    users: dict[str, list[str]] = {}
    for key, names in record.items():
        for name in names:
            users.setdefault(name, []).append(key.removesuffix("_available_helpers"))
    lines: list[str] = []
    for helper in HELPERS:
        name = f"bpf_{helper.name}"
        if len(record) == 1 and name not in users:
            continue
        lines.append(f"{helper.number:3}  {helper.prototype}")
        lines.append(f"     {HELPER_TEXTS.get(helper.name, '')}")
        if len(record) > 1:
            missing = "not tried, as the kernel would write to its log: 'feature full' does"
            found = users.get(name, [missing if helper.name in _LOUD else "none"])
            lines += textwrap.wrap(
                " ".join(found), 100, initial_indent="     in: ", subsequent_indent="         "
            )
    return lines


def attach_types() -> dict[str, int]:
    """Attach types of the running kernel, by its own names and numbers."""
    return _enumeration("bpf_attach_type")


def commands() -> dict[str, int]:
    """Commands of the running kernel's bpf(2)."""
    return _enumeration("bpf_cmd")


def link_types() -> dict[str, int]:
    """Link types of the running kernel."""
    return _enumeration("bpf_link_type")


def numbers_text(record: dict[str, int]) -> list[str]:
    """Names with their numbers."""
    return [f"{number:3}  {name}" for name, number in record.items()]


def _enumeration(name: str) -> dict[str, int]:
    from tracebee.btf.opening import open_vmlinux

    return {e.name: e.value for e in open_vmlinux().enumerators(name) if not e.name.startswith("__MAX")}


def kfuncs() -> list[str]:
    """Prototypes of the kernel functions that programs may call, those of modules after their names.

    Found by the tag ``bpf_kfunc``, which kernels have since 6.9 (built with pahole 1.26 or newer).
    """
    from tracebee.btf.opening import module_names, open_module, open_vmlinux

    found = _tagged(open_vmlinux())
    for module in module_names():
        found += [f"{prototype} [{module}]" for prototype in _tagged(open_module(module))]
    return found


def _tagged(btf: Btf) -> list[str]:
    from tracebee.btf import kinds

    found = []
    for type_id in btf.ids(kinds.BTF_KIND_DECL_TAG):
        tag = btf.type(type_id)
        if tag.name == "bpf_kfunc":
            function = btf.type(tag.type_id)
            found.append(btf.declare(function.type_id, function.name))
    return sorted(found, key=lambda text: text.partition("(")[0].rpartition(" ")[2].lstrip("*"))


def kfuncs_text(record: list[str]) -> list[str]:
    """The prototypes; where there are none, why."""
    return record or ["(this kernel's type information does not say)"]


def feature_rows() -> dict[str, bool | None]:
    """What tracing programs can use, by name; None for what this process may not find out."""
    found: dict[str, bool | None] = {}
    for feature in features.FEATURES:
        try:
            found[feature.name] = features.has(feature.name)
        except PrivilegeError:
            found[feature.name] = None
    return found


def features_text(record: dict[str, bool | None]) -> list[str]:
    """The features with what each is for and the release that brought it."""
    rows = {feature.name: feature for feature in features.FEATURES}
    words = {True: "yes", False: "no", None: "?"}
    lines = [
        f"{words[has]:3}  {name:24} {rows[name].enables} (Linux {rows[name].since})"
        for name, has in record.items()
    ]
    return lines if None not in record.values() else [*lines, _NOT_TOLD]


def misc(record: dict[str, bool | None]) -> dict[str, bool | None]:
    """The features that bpftool has under ``misc``."""
    return {theirs: record[ours] for ours, theirs in _MISC.items()}


def limit_values() -> dict[str, int | None]:
    """Limits on programs, as measured here."""
    return {limit.name: limits.measured(limit) for limit in limits.LIMITS}


def limits_text(record: dict[str, int | None]) -> list[str]:
    """The limits with what each bounds."""
    rows = {limit.name: limit.meaning for limit in limits.LIMITS}
    lines = [
        f"{name:24} {'unknown' if value is None else f'{value:,}':>12}  {rows[name]}"
        for name, value in record.items()
    ]
    return lines if None not in record.values() else [*lines, _NOT_TOLD]
