"""The helpers as native code: written in BPF, compiled by the JIT, called by compiled programs directly.

The ``*.s`` files beside this one are their texts. What they cannot do themselves (system calls, copying)
they ask of the C library; map types that have no native code are served by Python.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tracebee.isa import insn as isa
from tracebee.isa.asm import assemble_functions
from tracebee.isa.helpers import BY_NAME
from tracebee.vm.jit.compiler import compile_program
from tracebee.vm.jit.native import ExecutableMemory
from tracebee.vm.jit.target import Environment
from tracebee.vm.maps import layout
from tracebee.vm.maps.ringbuf import RingBufferMap
from tracebee.vm.program import Program

if TYPE_CHECKING:
    from tracebee.isa.insn import Insn
    from tracebee.vm.maps.create import MapSpace

_EOPNOTSUPP = 95
_libc = ctypes.CDLL(None)
_C_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 5)
# The ring buffer's text has the page size of x86-64, and of most arm64 kernels, in it.
_TEXTS = ("maps.s", "process.s", "memory.s", "strings.s", *(("ringbuf.s",) if mmap.PAGESIZE == 4096 else ()))


class NativeFunctions:
    """Functions written in BPF assembly, compiled.

    :param texts: what they are in; they may call each other by name.
    :param python: functions in Python that they call as ``kfunc``; other names are the C library's.
    """

    def __init__(
        self, texts: tuple[str, ...], python: Mapping[str, Callable[[int, int, int, int, int], int]]
    ) -> None:
        program, outside = _link(texts)
        # The callbacks live as long as the code that calls them.
        self._callbacks = {name: _C_FUNCTION(function) for name, function in python.items()}
        kfuncs = {number: self._outside(name) for name, number in outside.items()}
        native = compile_program(program, Environment(kfuncs=kfuncs))
        self._memory = ExecutableMemory(native.code)
        self.addresses: Mapping[str, int] = {
            name: self._memory.address + native.functions[slot] for slot, name in program.names.items()
        }
        self.helpers: Mapping[int, int] = {
            BY_NAME[name].number: address for name, address in self.addresses.items() if name in BY_NAME
        }

    def _outside(self, name: str) -> int:
        function = self._callbacks.get(name) or _libc[name]
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address is not None, f"the C library has no {name}"
        return address

    def close(self) -> None:
        """Free the code. Nothing may run in it any more."""
        self._memory.close()


class NativeHelpers:
    """Helpers for the compiled programs of one VM.

    ``table`` has the native address of each helper by its number, for ``jit.Environment``.
    """

    def __init__(self, space: MapSpace) -> None:
        self._space = space
        self._functions = NativeFunctions(_texts(), self._python())
        self.addresses = self._functions.addresses
        self.table = self._functions.helpers
        for map_ in space.maps:
            if isinstance(map_, RingBufferMap):
                map_.memory.set_u64(layout.HEAD, map_.fileno())  # where commit finds whom to wake

    def close(self) -> None:
        """Free the code. No compiled program may run any more."""
        self._functions.close()

    def __enter__(self) -> NativeHelpers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _python(self) -> dict[str, Callable[[int, int, int, int, int], int]]:
        return {
            "python_map_lookup_elem": self._lookup,
            "python_map_update_elem": self._update,
            "python_map_delete_elem": self._delete,
            "python_ringbuf_lost": self._lost,
        }

    def _lookup(self, map_: int, key: int, *_: int) -> int:
        found = self._space.at(map_)
        return found.find(ctypes.string_at(key, found.key_size), _cpu()) if found is not None else 0

    def _update(self, map_: int, key: int, value: int, flags: int, *_: int) -> int:
        found = self._space.at(map_)
        if found is None:
            return -_EOPNOTSUPP
        data = ctypes.string_at(value, found.value_size)
        return found.set(ctypes.string_at(key, found.key_size), data, flags, _cpu())

    def _delete(self, map_: int, key: int, *_: int) -> int:
        found = self._space.at(map_)
        return -_EOPNOTSUPP if found is None else found.remove(ctypes.string_at(key, found.key_size))

    def _lost(self, map_: int, *_: int) -> int:
        found = self._space.at(map_)
        if isinstance(found, RingBufferMap):
            found.lost += 1
        return 0


def _thread_id() -> str:
    """A function that gives the calling thread's id, without a system call where the C library's own note
    of it can be found: at a place in its description of a thread that is the same for every thread.
    """
    import threading

    thread_self = _libc.pthread_self
    thread_self.restype = ctypes.c_void_p
    seen: list[set[int]] = []

    def look() -> None:
        words = (ctypes.c_uint32 * _DESCRIPTION).from_address(thread_self())
        me = threading.get_native_id()
        seen.append({4 * at for at, word in enumerate(words) if word == me})

    for _ in range(2):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    places = sorted(set.intersection(*seen))
    if not places:
        return ".func thread_id\n call kfunc gettid\n w0 = w0\n exit\n"
    return f".func thread_id\n call kfunc pthread_self\n r0 = *(u32 *)(r0 +{places[0]})\n exit\n"


_DESCRIPTION = 256  # words of a thread's description to search: struct pthread is larger than that


def _cpu() -> int:
    return int(_libc.sched_getcpu())


@functools.cache
def _texts() -> tuple[str, ...]:
    return (_thread_id(), *[text(name) for name in _TEXTS])


def text(name: str) -> str:
    """One of the texts beside this file, for functions that are linked with others."""
    with open(f"{os.path.dirname(__file__)}/{name}") as file:
        return file.read()


@functools.cache
def _link(texts: tuple[str, ...]) -> tuple[Program, Mapping[str, int]]:
    """All functions of some texts as one program, and the number of each function it calls outside."""
    functions = assemble_functions("\n".join(texts), source="native helpers")
    starts: dict[str, int] = {}
    slot = 0
    for function in functions:
        starts[function.name] = slot
        slot += sum(insn.slots for insn in function.insns)
    outside: dict[str, int] = {}
    out: list[Insn] = []
    slot = 0
    for function in functions:
        symbols = {symbol.at: symbol for symbol in function.symbols}
        for at, insn in enumerate(function.insns):
            symbol = symbols.get(at)
            if symbol is None:
                linked = insn
            elif symbol.kind == "call":
                linked = insn._replace(imm=starts[symbol.name] - slot - 1)
            else:
                number = outside.setdefault(symbol.name, len(outside) + 1)
                linked = insn._replace(src=isa.BPF_PSEUDO_KFUNC_CALL, imm=number)
            out.append(linked)
            slot += insn.slots
    return Program(out, {start: name for name, start in starts.items()}), outside
