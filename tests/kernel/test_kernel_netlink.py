"""Routing netlink: messages taken apart, and what the kernel says when it refuses."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import KernelError
from tracebee.kernel import netlink
from tracebee.kernel.netlink import _actions, _attribute, _attributes, _xdp


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=20)))
def test_attributes_come_back(fields: dict[int, bytes]) -> None:
    data = b"".join(_attribute(kind, value) for kind, value in fields.items())
    assert _attributes(data) == fields


@given(st.binary(max_size=64))
def test_damaged_attributes_end(data: bytes) -> None:
    assert sum(len(value) for value in _attributes(data).values()) <= len(data)


def number(value: int) -> bytes:
    return struct.pack("=I", value)


def test_actions_of_a_filter() -> None:
    options = _attribute(6, b"act.o:[action]\0") + _attribute(9, number(71))
    ours = _attribute(1, b"bpf\0") + _attribute(2 | 1 << 15, options)
    other = _attribute(1, b"gact\0") + _attribute(2, b"")
    assert _actions(_attribute(1, ours) + _attribute(2, other)) == (("act.o:[action]", 71),)
    assert _actions(b"") == ()


def test_xdp_programs_by_mode() -> None:
    assert _xdp(_attribute(2, b"\0")) == {}
    assert _xdp(_attribute(2, b"\2") + _attribute(4, number(5))) == {"generic": 5}
    several = _attribute(2, b"\4") + _attribute(5, number(6)) + _attribute(6, number(7))
    assert _xdp(several) == {"driver": 6, "generic": 7}


def test_devices_of_this_namespace() -> None:
    assert [(each.number, each.name) for each in netlink.devices()] == sorted(socket.if_nameindex())


@pytest.mark.needs("root")
def test_a_refusal_has_the_kernels_words() -> None:
    with pytest.raises(KernelError) as caught:
        netlink.set_xdp(0x7FFFFFFF, -1, 0)
    assert caught.value.errno == 19  # ENODEV
    assert caught.value.message == "netlink: no such device (ENODEV)"
