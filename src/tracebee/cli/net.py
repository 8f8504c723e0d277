"""``tracebee net``: programs on network devices."""

from __future__ import annotations

from tracebee import uapi
from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import UsageError
from tracebee.kernel import netlink
from tracebee.kernel.devices import device_number

USAGE = """\
usage: tracebee net [show|list] [dev NAME]      programs of this network namespace, or of one device
       tracebee net attach ATTACH_TYPE PROG dev NAME [overwrite]
       tracebee net detach ATTACH_TYPE dev NAME
  ATTACH_TYPE := { xdp | xdpgeneric | xdpdrv | xdpoffload | tcx_ingress | tcx_egress }
  PROG := { id NUMBER | name NAME | tag TAG | pinned PATH }
  options: -j JSON, -p indented JSON"""

_XDP = {
    "xdp": 0,
    "xdpgeneric": netlink.XDP_FLAGS_SKB_MODE,
    "xdpdrv": netlink.XDP_FLAGS_DRV_MODE,
    "xdpoffload": netlink.XDP_FLAGS_HW_MODE,
}
_TCX = {"tcx_ingress": uapi.BPF_TCX_INGRESS, "tcx_egress": uapi.BPF_TCX_EGRESS}


def run(argv: list[str]) -> int:
    """The command ``tracebee net``."""
    return dispatch(argv, {"show": _show, "list": _show, "attach": _attach, "detach": _detach}, USAGE)


def _show(words: Words) -> int:
    from tracebee.report.inspect.net import net_record, net_text

    device = _device(words) if words else None
    words.end()
    record = net_record(device)
    if words.json:
        words.print_json([record])
    else:
        print(net_text(record))
    return 0


def _attach(words: Words) -> int:
    how = _attach_type(words)
    with choice.program(words) as program:
        device = _device(words)
        overwrite = bool(words.accept("overwrite"))
        words.end()
        if how in _TCX:
            program.attach(device, _TCX[how])
        else:
            unless = 0 if overwrite else netlink.XDP_FLAGS_UPDATE_IF_NOEXIST
            netlink.set_xdp(device, program.fd, _XDP[how] | unless)
    return choice.done(words)


def _detach(words: Words) -> int:
    how = _attach_type(words)
    device = _device(words)
    words.end()
    if how in _TCX:
        from tracebee.kernel.program import detach_any

        detach_any(device, _TCX[how])
    else:
        netlink.set_xdp(device, -1, _XDP[how])
    return choice.done(words)


def _attach_type(words: Words) -> str:
    name = words.next("an attach type")
    if name not in _XDP and name not in _TCX:
        raise UsageError(f"programs cannot be attached by '{name}' here", hint=words.hint)
    return name


def _device(words: Words) -> int:
    words.expect("dev")
    return device_number(words.next("a network device"))
