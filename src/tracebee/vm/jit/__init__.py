"""The JIT: BPF programs as native machine code, emitted without an assembler.

``compile_program`` makes position-independent code for x86-64 or arm64; ``NativeProgram`` puts it into
executable memory and calls it.
"""

from __future__ import annotations

from tracebee.vm.jit.compiler import NativeCode, compile_program
from tracebee.vm.jit.native import NativeProgram
from tracebee.vm.jit.target import Environment

__all__ = ["Environment", "NativeCode", "NativeProgram", "compile_program"]
