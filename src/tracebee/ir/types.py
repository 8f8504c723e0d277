"""The types of IR values: a 64-bit integer, or a pointer into one of BPF's address spaces.

They are plain strings, so that a dump prints them and a comparison is one pointer test.
"""

from __future__ import annotations

VOID = "void"
I64 = "i64"

CTX = "ctx"  # the program's context: what it reads there never changes
STACK = "stack"  # a local object, on the BPF stack or in scratch memory
MAP = "map"  # a map, as helpers want it
MAP_VALUE = "map_value"  # inside a map's value (or null, before a check)
MEM = "mem"  # memory of known size: a ring buffer record, a dynptr slice
KERNEL = "kernel"  # a kernel pointer the verifier lets programs read, faults reading as 0
FUNC = "func"  # a subprogram's address

POINTERS = frozenset((CTX, STACK, MAP, MAP_VALUE, MEM, KERNEL, FUNC))
READABLE = frozenset((CTX, STACK, MAP_VALUE, MEM, KERNEL))
WRITABLE = frozenset((CTX, STACK, MAP_VALUE, MEM))
TYPES = POINTERS | {VOID, I64}
