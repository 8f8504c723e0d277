"""Programs by hand, each for one rule: name, program type, text, and the message that refuses it.

An empty message means accepted. Where the kernel can load it, it must agree.
"""

from __future__ import annotations

from typing import NamedTuple

from tracebee import uapi

FILTER = uapi.BPF_PROG_TYPE_SOCKET_FILTER
KPROBE = uapi.BPF_PROG_TYPE_KPROBE
XDP = uapi.BPF_PROG_TYPE_XDP
CLS = uapi.BPF_PROG_TYPE_SCHED_CLS


class Case(NamedTuple):
    """One program. ``kernel`` is False when the test cannot give the kernel what it needs for it."""

    name: str
    type: int
    text: str
    message: str = ""
    kernel: bool = True


LOOKUP = """
    *(u32 *)(r10 -4) = 9
    r1 = map[array]
    r2 = r10
    r2 += -4
    call map_lookup_elem
"""

CASES = [
    Case("least", FILTER, "r0 = 0\nexit"),
    Case("no result", FILTER, "exit", "R0 !read_ok"),
    Case("register never set", FILTER, "r0 = r3\nexit", "R3 !read_ok"),
    Case("frame pointer written", FILTER, "r10 = 0\nr0 = 0\nexit", "frame pointer is read only"),
    Case("dead code", FILTER, "r0 = 0\nexit\nr0 = 1\nexit", "unreachable instruction 2"),
    Case("falls off the end", FILTER, "r0 = 0\nr1 = 0", "1: the last instruction"),
    Case("endless", FILTER, "again:\ngoto again", "infinite loop detected"),
    Case(
        "endless with exit", FILTER, "r0 = 0\nagain:\nif r0 == 0 goto again\nexit", "infinite loop detected"
    ),
    Case("counted", FILTER, "r0 = 0\nagain:\nr0 += 1\nif r0 < 100 goto again\nexit"),
    Case("division by constant zero", FILTER, "r0 = 1\nr0 /= 0\nexit", "div by zero"),
    Case("shift too far", FILTER, "r0 = 1\nr0 <<= 64\nexit", "invalid shift 64"),
    Case(
        "stack uninitialised for a helper",
        FILTER,
        "r0 = 0\n*(u64 *)(r10 -520) = r0\nexit",
        "invalid access to stack",
    ),
    Case("misaligned stack", FILTER, "r0 = 0\n*(u64 *)(r10 -12) = r0\nexit", "misaligned stack"),
    Case("above the frame", FILTER, "r0 = *(u64 *)(r10 +0)\nexit", "invalid access to stack"),
    Case(
        "value or null",
        FILTER,
        LOOKUP + "r0 = *(u64 *)(r0 +0)\nexit",
        "R0 invalid mem access 'map_value_or_null'",
    ),
    Case(
        "an element that is always there", FILTER, LOOKUP.replace("= 9", "= 0") + "r0 = *(u64 *)(r0 +0)\nexit"
    ),
    Case(
        "value checked",
        FILTER,
        LOOKUP + "if r0 == 0 goto out\nr0 = *(u64 *)(r0 +40)\nout:\nr0 = 0\nexit",
    ),
    Case(
        "value beyond its end",
        FILTER,
        LOOKUP + "if r0 == 0 goto out\nr0 = *(u64 *)(r0 +44)\nout:\nr0 = 0\nexit",
        "invalid access to map value, size=48 off=44 size=8",
    ),
    Case(
        "null check of a copy",
        FILTER,
        LOOKUP + "r6 = r0\nif r6 == 0 goto out\nr0 = *(u64 *)(r0 +0)\nout:\nr0 = 0\nexit",
    ),
    Case(
        "null check after a spill",
        FILTER,
        LOOKUP + "*(u64 *)(r10 -16) = r0\nif r0 == 0 goto out\nr1 = *(u64 *)(r10 -16)\n"
        "r1 = *(u64 *)(r1 +0)\nout:\nr0 = 0\nexit",
    ),
    Case(
        "arithmetic before the null check",
        FILTER,
        LOOKUP + "r0 += 8\nif r0 == 0 goto out\nr0 = *(u64 *)(r0 +0)\nout:\nr0 = 0\nexit",
        "R0 pointer arithmetic on map_value_or_null prohibited",
    ),
    Case(
        "masked index",
        FILTER,
        LOOKUP + "if r0 == 0 goto out\nr6 = r0\ncall get_prandom_u32\nr0 &= 31\nr6 += r0\n"
        "r0 = *(u8 *)(r6 +16)\nout:\nr0 = 0\nexit",
    ),
    Case(
        "index one too large",
        FILTER,
        LOOKUP + "if r0 == 0 goto out\nr6 = r0\ncall get_prandom_u32\nr0 &= 31\nr6 += r0\n"
        "r0 = *(u8 *)(r6 +17)\nout:\nr0 = 0\nexit",
        "invalid access to map value, size=48 off=48 size=1",
    ),
    Case(
        "signed index",
        FILTER,
        LOOKUP + "if r0 == 0 goto out\nr6 = r0\ncall get_prandom_u32\nr0 -= 5\n"
        "if r0 s> 10 goto out\nr6 += r0\nr0 = *(u8 *)(r6 +0)\nout:\nr0 = 0\nexit",
        "math between map_value pointer and register with unbounded min value",
    ),
    Case(
        "linked numbers",
        FILTER,
        LOOKUP + "if r0 == 0 goto out\nr6 = r0\ncall get_prandom_u32\nr7 = r0\nif r0 > 40 goto out\n"
        "r6 += r7\nr0 = *(u8 *)(r6 +0)\nout:\nr0 = 0\nexit",
    ),
    Case("pointer times two", FILTER, "r1 *= 2\nr0 = 0\nexit", "R1 operator *= on pointer prohibited"),
    Case("two pointers added", FILTER, "r1 += r10\nr0 = 0\nexit", "R1 pointer += pointer prohibited"),
    Case("moved context", FILTER, "r1 += 4\nr0 = *(u32 *)(r1 +0)\nexit", "dereference of modified ctx ptr"),
    Case("hidden field", FILTER, "r0 = *(u32 *)(r1 +76)\nexit", "invalid bpf_context access off=76 size=4"),
    Case("tail of the context", KPROBE, "r0 = *(u64 *)(r1 +160)\nexit"),
    Case("beyond the context", KPROBE, "r0 = *(u64 *)(r1 +168)\nexit", "invalid bpf_context access"),
    Case(
        "helper of other types",
        FILTER,
        "call bpf_override_return\nexit",
        "program of this type cannot use helper",
    ),
    Case(
        "packet checked",
        XDP,
        "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 14\n"
        "if r4 > r3 goto out\nr0 = *(u8 *)(r2 +13)\nout:\nr0 = 2\nexit",
    ),
    Case(
        "packet one byte too far",
        XDP,
        "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 14\n"
        "if r4 > r3 goto out\nr0 = *(u8 *)(r2 +14)\nout:\nr0 = 2\nexit",
        "invalid access to packet",
    ),
    Case(
        "packet unchecked", XDP, "r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +0)\nexit", "invalid access to packet"
    ),
    Case(
        "reserved memory kept",
        FILTER,
        "r1 = map[ring]\nr2 = 8\nr3 = 0\ncall ringbuf_reserve\nr0 = 0\nexit",
        "Unreleased reference",
    ),
    Case(
        "reserved memory submitted",
        FILTER,
        "r1 = map[ring]\nr2 = 8\nr3 = 0\ncall ringbuf_reserve\nif r0 == 0 goto out\n"
        "*(u64 *)(r0 +0) = 1\nr1 = r0\nr2 = 0\ncall ringbuf_submit\nout:\nr0 = 0\nexit",
    ),
    Case(
        "submitted twice",
        FILTER,
        "r1 = map[ring]\nr2 = 8\nr3 = 0\ncall ringbuf_reserve\nif r0 == 0 goto out\n"
        "r6 = r0\nr1 = r0\nr2 = 0\ncall ringbuf_submit\nr1 = r6\nr2 = 0\n"
        "call ringbuf_submit\nout:\nr0 = 0\nexit",
        "R1 type=scalar expected=ringbuf_mem",
    ),
    Case(
        "wrong map for the helper",
        FILTER,
        "r1 = map[ring]\nr2 = r10\nr2 += -8\n*(u64 *)(r10 -8) = 0\ncall map_lookup_elem\nr0 = 0\nexit",
        "cannot pass map 'ring'",
    ),
    Case("function", FILTER, "r1 = 1\ncall twice\nexit\n.func twice\nr0 = r1\nr0 += r0\nexit"),
    Case(
        "function reads what it was not given",
        FILTER,
        "call twice\nexit\n.func twice\nr0 = r2\nexit",
        "R2 !read_ok",
    ),
    Case(
        "arguments do not outlive a call",
        FILTER,
        "r1 = 1\ncall one\nr0 = r1\nexit\n.func one\nr0 = 1\nexit",
        "R1 !read_ok",
    ),
    Case(
        "recursion",
        FILTER,
        "call again\nexit\n.func again\ncall again\nexit",
        "the call stack of 8 frames is too deep",
    ),
    Case(
        "frames too large together",
        FILTER,
        "*(u64 *)(r10 -256) = 0\ncall deep\nexit\n.func deep\n*(u64 *)(r10 -264) = 0\nr0 = 0\nexit",
        "combined stack size of 2 calls is 544. Too large",
    ),
    Case(
        "the caller's stack in a function",
        FILTER,
        "*(u64 *)(r10 -8) = 7\nr1 = r10\nr1 += -8\ncall read\nexit\n.func read\nr0 = *(u64 *)(r1 +0)\nexit",
    ),
    Case(
        "own stack handed up",
        FILTER,
        "call give\nr0 = *(u64 *)(r0 -8)\nexit\n.func give\nr0 = r10\nexit",
        "cannot return stack pointer to the caller",
    ),
    Case(
        "loop helper",
        FILTER,
        "*(u64 *)(r10 -8) = 0\nr1 = 100\nr2 = subprog[body]\nr3 = r10\nr3 += -8\nr4 = 0\n"
        "call bpf_loop\nr0 = 0\nexit\n"
        ".func body\nr1 = *(u64 *)(r2 +0)\nr1 += 1\n*(u64 *)(r2 +0) = r1\nr0 = 0\nexit",
        kernel=False,
    ),
    Case(
        "loop body returns too much",
        FILTER,
        "r1 = 100\nr2 = subprog[body]\nr3 = 0\nr4 = 0\ncall bpf_loop\nr0 = 0\nexit\n.func body\nr0 = 2\nexit",
        "At callback return the register R0 should have been in [0, 1]",
        kernel=False,
    ),
    Case(
        "for each element",
        FILTER,
        "r1 = map[array]\nr2 = subprog[body]\nr3 = 0\nr4 = 0\ncall for_each_map_elem\n"
        "r0 = 0\nexit\n"
        ".func body\nr0 = *(u64 *)(r3 +40)\nr0 = 0\nexit",
        kernel=False,
    ),
    Case(
        "for each element beyond the value",
        FILTER,
        "r1 = map[array]\nr2 = subprog[body]\nr3 = 0\nr4 = 0\ncall for_each_map_elem\n"
        "r0 = 0\nexit\n"
        ".func body\nr0 = *(u64 *)(r3 +48)\nr0 = 0\nexit",
        "invalid access to map value",
        kernel=False,
    ),
    Case(
        "what a loop changes is unknown behind it",
        FILTER,
        LOOKUP.replace("-4", "-16").replace("u32", "u64")
        + "if r0 == 0 goto out\nr6 = r0\n*(u64 *)(r10 -8) = 0\nr1 = 10\nr2 = subprog[body]\n"
        "r3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\n"
        "r1 = *(u64 *)(r10 -8)\nr6 += r1\nr0 = *(u8 *)(r6 +0)\nout:\nr0 = 0\nexit\n"
        ".func body\nr1 = *(u64 *)(r2 +0)\nr1 += 1\n*(u64 *)(r2 +0) = r1\nr0 = 0\nexit",
        "math between map_value pointer and register with unbounded min value",
        kernel=False,
    ),
    Case(
        "atomic on the context",
        FILTER,
        "r2 = 1\nlock *(u64 *)(r1 +0) += r2\nr0 = 0\nexit",
        "BPF_ATOMIC stores into R1 ctx is not allowed",
    ),
    Case("packet load without context in r6", FILTER, "r0 = *(u8 *)skb[0]\nexit", "R6 !read_ok"),
    Case("packet load", FILTER, "r6 = r1\nr0 = *(u8 *)skb[0]\nexit"),
    Case(
        "packet load elsewhere",
        KPROBE,
        "r6 = r1\nr0 = *(u8 *)skb[0]\nexit",
        "BPF_LD_[ABS|IND] instructions not allowed",
    ),
    Case(
        "size from a number",
        KPROBE,
        "call get_prandom_u32\nr2 = r0\nr2 &= 63\nr1 = r10\nr1 += -64\nr3 = 0\n"
        "call probe_read_kernel\nr0 = 0\nexit",
    ),
    Case(
        "size without a limit",
        KPROBE,
        "call get_prandom_u32\nr2 = r0\nr1 = r10\nr1 += -64\nr3 = 0\ncall probe_read_kernel\nr0 = 0\nexit",
        "R2 min value is negative",
    ),
    Case(
        "bytes read are at most those asked for",
        KPROBE,
        "r1 = r10\nr1 += -64\nr2 = 32\nr3 = 0\ncall probe_read_kernel_str\n"
        "if r0 s< 0 goto out\nr1 = r10\nr1 += -64\nr2 = r0\nr3 = 0\n"
        "call probe_read_kernel\nout:\nr0 = 0\nexit",
    ),
    Case(
        "branches that differ in nothing that matters",
        FILTER,
        "r6 = r1\nr7 = 0\n"
        + "".join(f"call get_prandom_u32\nif r0 & 1 goto l{i}\nr7 += {i + 1}\nl{i}:\n" for i in range(40))
        + "r0 = r7\nexit",
    ),
]
