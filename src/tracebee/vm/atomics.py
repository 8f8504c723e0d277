"""Atomic operations on shared memory, which neither Python nor the C library offers to a caller.

A few instructions of machine code per architecture, in a page that is written once and then made executable.
Where the architecture is not in the table, or the system forbids such pages, plain reads and writes stand
in: they are correct as long as one thread of one process changes the memory.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from tracebee.vm.pages import map_code

Exchange = Callable[[int, int, int], int]

# (architecture, cas32, cas64, add64), each a C function: cas(address, expected, new) and add(address, amount)
# give the old value.
_CODE: dict[str, tuple[str, str, str]] = {
    # mov eax, esi; lock cmpxchg [rdi], edx; ret    and 64 bits wide    and lock xadd
    "x86_64": ("89f0 f00fb117 c3", "4889f0 f0480fb117 c3", "4889f0 f0480fc107 c3"),
    # Load-acquire, compare, store-release, again while the store fails.
    "aarch64": (
        "03fc5f88 7f00016b 61000054 02fc0488 84ffff35 e003032a c0035fd6",
        "03fc5fc8 7f0001eb 61000054 02fc04c8 84ffff35 e00303aa c0035fd6",
        "03fc5fc8 6400018b 04fc05c8 a5ffff35 e00303aa c0035fd6",
    ),
}


def _functions() -> tuple[Exchange, Exchange, Callable[[int, int], int]] | None:
    """The three functions compiled for this machine, or None where that cannot be."""
    code = _CODE.get(os.uname().machine)
    if code is None:
        return None
    chunks = [bytes.fromhex(text).ljust(64, b"\0") for text in code]
    try:
        page = map_code(b"".join(chunks))
    except OSError:
        return None
    u32, u64, pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
    return (
        ctypes.CFUNCTYPE(u32, pointer, u32, u32)(page),
        ctypes.CFUNCTYPE(u64, pointer, u64, u64)(page + 64),
        ctypes.CFUNCTYPE(u64, pointer, u64)(page + 128),
    )


def _plain_exchange(size: int) -> Exchange:
    cell = {4: ctypes.c_uint32, 8: ctypes.c_uint64}[size]

    def exchange(address: int, expected: int, new: int) -> int:
        word = cell.from_address(address)
        old = word.value
        if old == expected:
            word.value = new
        return old

    return exchange


def _plain_add(address: int, amount: int) -> int:
    word = ctypes.c_uint64.from_address(address)
    old = word.value
    word.value = old + amount
    return old


_native = _functions()

compare_exchange32: Exchange
compare_exchange64: Exchange
add64: Callable[[int, int], int]
if _native is not None:
    compare_exchange32, compare_exchange64, add64 = _native
else:
    compare_exchange32, compare_exchange64, add64 = _plain_exchange(4), _plain_exchange(8), _plain_add
