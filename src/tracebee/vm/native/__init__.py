"""The VM's helpers as native code, and whole objects run by the JIT."""

from __future__ import annotations

from tracebee.vm.native.library import NativeHelpers
from tracebee.vm.native.session import NativeVm

__all__ = ["NativeHelpers", "NativeVm"]
