"""Running a classic filter: in the VM, and attached to a socket in the kernel, classic or translated."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tracebee.isa.codec import encode as encode_ebpf
from tracebee.vm.cbpf.capture import Packet
from tracebee.vm.cbpf.program import ClassicInsn, encode
from tracebee.vm.cbpf.translate import translate
from tracebee.vm.environment import Environment
from tracebee.vm.helpers import Helpers
from tracebee.vm.interpreter import Machine
from tracebee.vm.maps.create import MapSpace
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program

if TYPE_CHECKING:
    from tracebee.kernel.program import Program as KernelProgram

_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_ATTACH_BPF = 26, 27, 50
_SOCKET_FILTER = 1
_SK_BUFF_BYTES = 192
_LENGTH, _PROTOCOL = 0, 16


class Filter:
    """A classic filter translated and ready to run in the VM's interpreter.

    :raises UnsupportedError: it cannot be translated.
    """

    def __init__(self, program: Sequence[ClassicInsn]) -> None:
        memory = Memory()
        self._context = memory.add(Region("context", bytearray(_SK_BUFF_BYTES), writable=False))
        helpers = Helpers(MapSpace(), Environment())
        self._machine = Machine(Program(translate(program)), helpers=helpers.table, memory=memory)

    def run(self, packet: bytes, length: int | None = None) -> int:
        """How many bytes of a packet the filter keeps, 0 for none.

        :param packet: the bytes captured, from the link layer header on.
        :param length: of the packet on the wire, when more than was captured.
        """
        wire = len(packet) if length is None else length
        struct.pack_into("=I", self._context.view, _LENGTH, wire)
        self._context.view[_PROTOCOL : _PROTOCOL + 4] = packet[12:14].ljust(4, b"\0")
        self._machine.start(self._context.base, packet=packet)
        return self._machine.run() & 0xFFFFFFFF

    def accepts(self, packet: bytes, length: int | None = None) -> bool:
        """Whether the filter keeps a packet."""
        return self.run(packet, length) != 0

    def choose(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """The packets the filter keeps."""
        return (packet for packet in packets if self.accepts(packet.data, packet.length))


def attach_classic(target: socket.socket, program: Sequence[ClassicInsn]) -> None:
    """Attach a classic filter to a socket (``SO_ATTACH_FILTER``); needs no privilege.

    :raises OSError: the kernel refuses it.
    """
    code = ctypes.create_string_buffer(encode(program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    target.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def attach_translated(target: socket.socket, program: Sequence[ClassicInsn]) -> KernelProgram:
    """Attach a filter's translation to a socket (``SO_ATTACH_BPF``).

    :returns: the loaded program, which the socket keeps alive from now on.
    :raises VerifierError: the kernel refuses the translation; KernelError, PrivilegeError, OSError.
    """
    from tracebee.kernel.program import Program as KernelProgram

    loaded = KernelProgram.load(encode_ebpf(translate(program)), _SOCKET_FILTER, name="cbpf")
    target.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, loaded.fd)
    return loaded


def detach(target: socket.socket) -> None:
    """Remove a socket's filter, whichever kind it is."""
    target.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
