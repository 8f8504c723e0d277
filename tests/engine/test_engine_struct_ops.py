"""Kernel structs made of programs: TCP congestion control that connections then use."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.api.objects import Object as OpenObject
from tracebee.engine.kernel.loader import LoadedObject, load_object
from tracebee.engine.kernel.struct_ops import attach_struct_ops, without
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.model import Object

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


def only(obj: Object, *names: str) -> Object:
    """The object with these of its struct_ops variables."""
    return without(obj, {ops.map for ops in obj.struct_ops} - set(names))


def test_a_struct_may_have_members_that_this_kernel_has_not(compiled: Callable[[str], str]) -> None:
    """A program of an optional section is loaded too when a variable that is made is set to it."""
    obj = read_object(compiled("struct_ops_members"))
    with load_object(only(obj, "fits")) as loaded:
        assert {"start", "threshold", "avoid", "undo", "end"} <= loaded.programs.keys()
        registered = attach_struct_ops(loaded, "fits")
        try:
            assert "bee_fits" in available()
        finally:
            registered.close()


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("number", "struct tcp_congestion_ops of this kernel has no member 'more'"),
        ("function", "struct tcp_congestion_ops of this kernel has no member 'future'"),
        ("twice", "program 'start' cannot be its member 'release' and another one too"),
        ("stranger", "its member 'init' is set to 'other', which is no struct_ops program"),
        ("wide", r"its member 'name' is char\[20\], in this kernel char\[16\]"),
        ("pointer", r"its member 'flags' is void \(\*\)\(struct sock \*\), in this kernel u32"),
        ("bits", "has a bit-field 'flags'"),
    ],
)
def test_a_struct_that_is_another_one_here(
    compiled: Callable[[str], str], variable: str, message: str
) -> None:
    obj = only(read_object(compiled("struct_ops_members")), "fits", variable)
    with pytest.raises(UnsupportedError, match=f"{variable}: .*{message}"):
        load_object(obj)


def test_a_program_that_nothing_is_set_to(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("struct_ops_members"))
    programs = tuple(p._replace(autoload=True) for p in obj.programs)
    fits = obj.struct_ops[0]._replace(members=obj.struct_ops[0].members[:-1])
    assert obj.struct_ops[0].members[-1][1] == "end"
    with pytest.raises(UnsupportedError, match="struct_ops program 'end' is in no"):
        load_object(only(obj._replace(programs=programs, struct_ops=(fits, *obj.struct_ops[1:])), "fits"))


def test_a_program_that_is_taken_out_is_not_loaded(compiled: Callable[[str], str]) -> None:
    with OpenObject(compiled("struct_ops_members")) as obj:
        obj.struct_ops["fits"]["init"] = None
        obj.struct_ops["fits"]["release"] = "start"
        obj.load()
        assert obj.loaded is not None
        assert {"start", "threshold"} <= obj.loaded.programs.keys()
        assert "end" not in obj.loaded.programs
