"""What is known of a number: known bits, and signed and unsigned bounds of 64 and 32 bits.

Each domain teaches the others (``sync``). Source: the kernel's ``kernel/bpf/verifier.c``
(``reg_bounds_sync`` and what it calls), whose precision this follows.
"""

from __future__ import annotations

from tracebee.vm.verifier import tnum
from tracebee.vm.verifier.tnum import M32, M64, Tnum

S64_MIN, S64_MAX = -(1 << 63), (1 << 63) - 1
S32_MIN, S32_MAX = -(1 << 31), (1 << 31) - 1


def s64(x: int) -> int:
    """The low 64 bits as a signed number."""
    x &= M64
    return x - (1 << 64) if x >> 63 else x


def s32(x: int) -> int:
    """The low 32 bits as a signed number."""
    x &= M32
    return x - (1 << 32) if x >> 31 else x


class Number:
    """An abstract 64-bit number. ``bits`` is its tnum; ``u``/``s`` bounds, ``...32`` of its low half."""

    __slots__ = ("bits", "smax", "smax32", "smin", "smin32", "umax", "umax32", "umin", "umin32")

    bits: Tnum
    umin: int
    umax: int
    smin: int
    smax: int
    umin32: int
    umax32: int
    smin32: int
    smax32: int

    def set_unknown(self) -> None:
        """Nothing is known."""
        self.bits = tnum.UNKNOWN
        self.set_unbounded()

    def set_unbounded(self) -> None:
        """Forget all bounds, keep the bits."""
        self.unbound64()
        self.unbound32()

    def unbound64(self) -> None:
        """Forget the 64-bit bounds."""
        self.umin, self.umax, self.smin, self.smax = 0, M64, S64_MIN, S64_MAX

    def unbound32(self) -> None:
        """Forget the 32-bit bounds."""
        self.umin32, self.umax32, self.smin32, self.smax32 = 0, M32, S32_MIN, S32_MAX

    def set_known(self, value: int) -> None:
        """Exactly ``value``."""
        value &= M64
        self.bits = (value, 0)
        self.umin = self.umax = value
        self.smin = self.smax = s64(value)
        self.umin32 = self.umax32 = value & M32
        self.smin32 = self.smax32 = s32(value)

    @property
    def is_const(self) -> bool:
        """Whether the value is known."""
        return self.bits[1] == 0

    @property
    def is_const32(self) -> bool:
        """Whether the low half is known."""
        return self.bits[1] & M32 == 0

    def copy_number(self, other: Number) -> None:
        """Take over another's knowledge."""
        self.bits = other.bits
        self.umin, self.umax, self.smin, self.smax = other.umin, other.umax, other.smin, other.smax
        self.umin32, self.umax32 = other.umin32, other.umax32
        self.smin32, self.smax32 = other.smin32, other.smax32

    def within(self, outer: Number) -> bool:
        """Whether every value this may have is one ``outer`` may have (as far as the domains tell)."""
        return (
            outer.umin <= self.umin
            and outer.umax >= self.umax
            and outer.smin <= self.smin
            and outer.smax >= self.smax
            and outer.umin32 <= self.umin32
            and outer.umax32 >= self.umax32
            and outer.smin32 <= self.smin32
            and outer.smax32 >= self.smax32
            and tnum.contains(outer.bits, self.bits)
        )

    def contains(self, value: int) -> bool:
        """Whether a concrete value satisfies every domain."""
        value &= M64
        return (
            self.umin <= value <= self.umax
            and self.smin <= s64(value) <= self.smax
            and self.umin32 <= value & M32 <= self.umax32
            and self.smin32 <= s32(value) <= self.smax32
            and value & ~self.bits[1] & M64 == self.bits[0]
        )

    # --- the domains teach each other ---------------------------------------------------------------

    def learn_from_bits(self) -> None:
        """Bounds from known bits."""
        self.learn_from_bits32()
        value, mask = self.bits
        self.smin = max(self.smin, s64(value | mask & 1 << 63))
        self.smax = min(self.smax, s64(value | mask & (1 << 63) - 1))
        self.umin = max(self.umin, value)
        self.umax = min(self.umax, value | mask)

    def learn_from_bits32(self) -> None:
        """32-bit bounds from known bits."""
        value, mask = self.bits[0] & M32, self.bits[1] & M32
        self.smin32 = max(self.smin32, s32(value | mask & 1 << 31))
        self.smax32 = min(self.smax32, s32(value | mask & (1 << 31) - 1))
        self.umin32 = max(self.umin32, value)
        self.umax32 = min(self.umax32, value | mask)

    def _meet32(self, low: int, high: int) -> None:
        self.umin32 = max(self.umin32, low)
        self.umax32 = min(self.umax32, high)

    def _meet_signed32(self, low: int, high: int) -> None:
        self.smin32 = max(self.smin32, low)
        self.smax32 = min(self.smax32, high)

    def _deduce32(self) -> None:
        umin, umax, smin, smax = self.umin, self.umax, self.smin, self.smax
        # The upper half does not change: the lower half is a range too.
        if umin >> 32 == umax >> 32:
            self._meet32(umin & M32, umax & M32)
            if s32(umin) <= s32(umax):
                self._meet_signed32(s32(umin), s32(umax))
        if smin >> 32 == smax >> 32:
            if smin & M32 <= smax & M32:
                self._meet32(smin & M32, smax & M32)
            if s32(smin) <= s32(smax):
                self._meet_signed32(s32(smin), s32(smax))
        # The upper half takes two consecutive values and the lower one goes from negative to positive.
        if ((umin >> 32) + 1) & M32 == umax >> 32 and s32(umin) < 0 <= s32(umax):
            self._meet_signed32(s32(umin), s32(umax))
        if ((smin >> 32) + 1) & M32 == (smax >> 32) & M32 and s32(smin) < 0 <= s32(smax):
            self._meet_signed32(s32(smin), s32(smax))
        # Signed and unsigned ranges that do not cross the sign are one.
        if s32(self.umin32) <= s32(self.umax32):
            self._meet_signed32(s32(self.umin32), s32(self.umax32))
        if self.smin32 & M32 <= self.smax32 & M32:
            self._meet32(self.smin32 & M32, self.smax32 & M32)

    def _deduce64(self) -> None:
        if s64(self.umin) <= s64(self.umax):
            self.smin = max(self.smin, s64(self.umin))
            self.smax = min(self.smax, s64(self.umax))
        if self.smin & M64 <= self.smax & M64:
            self.umin = max(self.umin, self.smin & M64)
            self.umax = min(self.umax, self.smax & M64)
        # A signed range across zero has two unsigned ends; the unsigned range may meet only one.
        elif self.umax < self.smin & M64:
            self.smin = s64(self.umin)
            self.umax = min(self.umax, self.smax & M64)
        elif self.smax & M64 < self.umin:
            self.smax = s64(self.umax)
            self.umin = max(self.umin, self.smin & M64)

    def _deduce_mixed(self) -> None:
        self.umin = max(self.umin, self.umin & ~M32 | self.umin32)
        self.umax = min(self.umax, self.umax & ~M32 | self.umax32)
        self.smin = max(self.smin, self.smin & ~M32 | self.umin32)
        self.smax = min(self.smax, self.smax & ~M32 | self.umax32)
        # The value is its sign-extended lower half.
        if self.smin >= S32_MIN and self.smax <= S32_MAX:
            self.smin = max(self.smin, self.smin32)
            self.smax = min(self.smax, self.smax32)

    def _bound_bits(self) -> None:
        whole = tnum.intersect(self.bits, tnum.in_range(self.umin, self.umax))
        low = tnum.intersect(tnum.subreg(whole), tnum.in_range(self.umin32, self.umax32))
        self.bits = tnum.with_subreg(whole, low)

    def sync(self) -> None:
        """Let every domain learn from the others; contradicting ones are forgotten (a dead branch)."""
        if self.bits[1] == 0 and self.umin == self.umax == self.bits[0] and self.smin == self.smax:
            self.set_known(self.umin)
            return
        self.learn_from_bits()
        for _ in range(3):
            self._deduce32()
            self._deduce64()
            self._deduce_mixed()
        if self.is_empty():
            self.set_unbounded()
            return
        self._bound_bits()
        self.learn_from_bits()
        if self.is_empty():
            self.set_unbounded()

    def is_empty(self) -> bool:
        """Whether the bounds contradict each other."""
        return (
            self.umin > self.umax
            or self.smin > self.smax
            or self.umin32 > self.umax32
            or self.smin32 > self.smax32
        )

    # --- changes of width ---------------------------------------------------------------------------

    def zero_extend32(self) -> None:
        """Clear the upper half: what a 32-bit operation leaves behind."""
        self.bits = tnum.subreg(self.bits)
        self.umin, self.umax = self.umin32, self.umax32
        if self.smin32 >= 0:
            self.smin, self.smax = self.smin32, self.smax32
        else:
            self.smin, self.smax = 0, M32
        self.sync()

    def truncate(self, size: int) -> None:
        """Keep the low ``size`` bytes, zero-extended: what a narrow load gives."""
        self.bits = tnum.cast(self.bits, size)
        mask = (1 << size * 8) - 1
        if self.umin & ~mask == self.umax & ~mask:
            self.umin &= mask
            self.umax &= mask
        else:
            self.umin, self.umax = 0, mask
        self.smin, self.smax = self.umin, self.umax
        if size < 4:
            self.unbound32()
        self.sync()

    def sign_extend(self, size: int, *, to32: bool = False) -> None:
        """Keep the low ``size`` bytes, sign-extended to 64 or 32 bits."""
        bits = size * 8
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        if self.smin >= low and self.smax <= high and not to32:
            return
        known = self.is_const
        value = self.bits[0] & (1 << bits) - 1
        value = value - (1 << bits) if value >> bits - 1 else value
        self.set_unknown()
        if known:
            self.set_known(value & M32 if to32 else value)
            return
        if to32:
            self.smin32, self.smax32 = low, high
            self.zero_extend32()
        else:
            self.smin, self.smax = low, high
            self.sync()

    def describe(self) -> str:
        """For people: ``42``, ``0 to 255``, ``unknown``."""
        if self.is_const:
            return str(self.smin)
        if self.smin == S64_MIN and self.umax == M64:
            return "any number"
        if self.smin >= 0:
            return f"{self.umin} to {self.umax}" if self.umax != M64 else f"at least {self.umin}"
        high = "" if self.smax == S64_MAX else f" to {self.smax}"
        low = "at least " if not high else ""
        return f"{low}{self.smin}{high}" if self.smin != S64_MIN else f"at most {self.smax}"
