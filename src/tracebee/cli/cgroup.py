"""``tracebee cgroup``: programs on control groups."""

from __future__ import annotations

from tracebee import uapi
from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import UnsupportedError, UsageError
from tracebee.kernel.cgroups import open_group
from tracebee.report.inspect.cgroup import CGROUP_TYPES, cgroup_head, cgroup_text

USAGE = """\
usage: tracebee cgroup [tree] [CGROUP] [effective]      groups with programs below one, or of the machine
       tracebee cgroup show|list CGROUP [effective]     programs attached to it; or all that run for it
       tracebee cgroup attach CGROUP ATTACH_TYPE PROG [multi|override]
       tracebee cgroup detach CGROUP ATTACH_TYPE PROG
  CGROUP := a directory of the cgroup2 file system
  PROG := { id NUMBER | name NAME | tag TAG | pinned PATH }
  ATTACH_TYPE := { cgroup_inet_ingress | cgroup_inet_egress | cgroup_inet_sock_create | ... | lsm_cgroup }
  options: -j JSON, -p indented JSON"""

_FLAGS = {"": 0, "multi": uapi.BPF_F_ALLOW_MULTI, "override": uapi.BPF_F_ALLOW_OVERRIDE}
_FAMILIES = {"inet4": "4", "inet6": "6", "udp4": "4", "udp6": "6"}


def run(argv: list[str]) -> int:
    """The command ``tracebee cgroup``."""
    commands = {"tree": _tree, "show": _show, "list": _show, "attach": _attach, "detach": _detach}
    return dispatch(argv, commands, USAGE)


def _show(words: Words) -> int:
    from tracebee.report.inspect.cgroup import cgroup_records

    path = words.next("a control group's directory")
    effective = bool(words.accept("effective"))
    words.end()
    records = cgroup_records(path, effective=effective)
    if words.json:
        return words.print_json(records)
    if records:
        print(cgroup_head(effective=effective))
        print(cgroup_text(records))
    return 0


def _tree(words: Words) -> int:
    from tracebee.report.inspect.cgroup import cgroup_tree

    root = words.next("a control group's directory") if words and words.peek() != "effective" else _root()
    effective = bool(words.accept("effective"))
    words.end()
    records = list(cgroup_tree(root, effective=effective))
    if words.json:
        return words.print_json(records)
    print("CgroupPath")
    print(cgroup_head(effective=effective))
    for record in records:
        print(record["cgroup"])
        print(cgroup_text(record["programs"], indent="    "))
    return 0


def _root() -> str:
    from tracebee.kernel.cgroups import roots

    found = roots()
    if not found:
        hint = "mount -t cgroup2 none /sys/fs/cgroup"
        raise UnsupportedError("no cgroup2 file system is mounted", hint=hint)
    return found[0]


def _attach(words: Words) -> int:
    with open_group(words.next("a control group's directory")) as group:
        attach_type = _attach_type(words)
        with choice.program(words) as program:
            flags = _FLAGS[words.accept("multi", "override")]
            words.end()
            program.attach(group.fd, attach_type, flags=flags)
    return choice.done(words)


def _detach(words: Words) -> int:
    with open_group(words.next("a control group's directory")) as group:
        attach_type = _attach_type(words)
        with choice.program(words) as program:
            words.end()
            program.detach_from(group.fd, attach_type)
    return choice.done(words)


def _attach_type(words: Words) -> int:
    name = words.next("an attach type")
    known: dict[str, int] = {
        **CGROUP_TYPES,
        **{_short(full): number for full, number in CGROUP_TYPES.items()},
    }
    if name not in known:
        from tracebee.suggest import did_you_mean

        hint = did_you_mean(name, known, count=1) or "attach types: " + ", ".join(CGROUP_TYPES)
        raise UsageError(f"control groups have no attach type '{name}'", hint=hint)
    return known[name]


def _short(full: str) -> str:
    """The spelling of older bpftools: ``ingress``, ``bind4``, ``sock_ops``."""
    family, _, rest = full.removeprefix("cgroup_").partition("_")
    if family == "inet":
        return rest
    return rest + _FAMILIES[family] if family in _FAMILIES else full.removeprefix("cgroup_")
