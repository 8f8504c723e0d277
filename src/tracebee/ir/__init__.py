"""SSA intermediate representation: what front ends write, its passes, and code generation to ``isa``."""

from __future__ import annotations

from tracebee.ir.builder import Builder
from tracebee.ir.compile import Compiled, compile_module
from tracebee.ir.types import CTX, FUNC, I64, KERNEL, MAP, MAP_VALUE, MEM, STACK, VOID
from tracebee.ir.value import Block, Function, Local, Module, Value

__all__ = [
    "CTX",
    "FUNC",
    "I64",
    "KERNEL",
    "MAP",
    "MAP_VALUE",
    "MEM",
    "STACK",
    "VOID",
    "Block",
    "Builder",
    "Compiled",
    "Function",
    "Local",
    "Module",
    "Value",
    "compile_module",
]
