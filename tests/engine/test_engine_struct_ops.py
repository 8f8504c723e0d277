"""Kernel structs made of programs: TCP congestion control that connections then use."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.engine.kernel.loader import LoadedObject, load_object
from tracebee.engine.kernel.struct_ops import attach_struct_ops
from tracebee.errors import SymbolError
from tracebee.obj.elf_reader import read_object

pytestmark = [pytest.mark.needs("bpf", "clang", "tcp_struct_ops")]


def available() -> list[str]:
    return Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()


def sockets_seen(loaded: LoadedObject) -> int:
    place = next(v for v in loaded.object.variables if v.name == "sockets")
    data = loaded.memory[place.map][place.offset : place.offset + place.size]
    return int.from_bytes(data, "little")


@pytest.mark.parametrize(("variable", "name"), [("plain", "bee_plain"), ("linked", "bee_linked")])
def test_connections_use_what_is_registered(compiled: Callable[[str], str], variable: str, name: str) -> None:
    with load_object(read_object(compiled("struct_ops"))) as loaded:
        assert name not in available()  # loading alone registers nothing
        registered = attach_struct_ops(loaded, variable)
        try:
            assert name in available()
            with socket.socket() as server, socket.socket() as client:
                server.bind(("127.0.0.1", 0))
                server.listen()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
                client.connect(server.getsockname())
                assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == (
                    name.encode()
                )
            assert sockets_seen(loaded) == 1
        finally:
            registered.close()
    assert name not in available()


def test_a_variable_that_is_not_there(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("struct_ops"))) as loaded, pytest.raises(SymbolError) as caught:
        attach_struct_ops(loaded, "planes")
    assert "plain" in caught.value.candidates
