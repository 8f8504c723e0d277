"""The VM's helpers as native code, for programs that the JIT compiled."""

from __future__ import annotations

from tracebee.vm.native.library import NativeHelpers

__all__ = ["NativeHelpers"]
