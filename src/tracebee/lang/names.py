"""Words the lexer and the parser treat apart from ordinary identifiers.

Source: bpftrace's language and standard-library references (keywords, builtins, types).
"""

# ruff: noqa: SIM905 - tables of words read better as words
from __future__ import annotations

import re

KEYWORDS = frozenset(
    (
        "break config continue else for if import let macro offsetof return sizeof unroll while"
        " comptime fn typeof typeinfo true false struct union enum"
    ).split()
)

# Builtins that stand alone, without "()"; with "()" they are calls of the same name.
_BUILTINS = frozenset(
    (
        "args cgroup comm cpid cpu ctx curtask elapsed func gid has_cpid jiffies kstack ncpus nsecs"
        " numaid pcomm pid ppid probe probetype rand retval stack tid uid usermode username ustack dw_ustack"
    ).split()
)
_NUMBERED = re.compile(r"s?arg[0-9]+\Z")

# Scalar and internal types that need no struct, union or enum before their name.
TYPES = frozenset(
    (
        "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64"
        " void string inet buffer timestamp macaddr_t cgroup_path_t strerror_t"
        " min_t max_t sum_t count_t avg_t stats_t umin_t umax_t usum_t ucount_t uavg_t ustats_t"
        " hist_t lhist_t tseries_t kstack_t ustack_t ksym_t usym_t username probe"
        " char short int long unsigned signed size_t"
    ).split()
)

# C spells its integers in several words; each phrase is one type name here.
C_INTEGER_WORDS = frozenset(("unsigned", "signed", "char", "short", "int", "long", "const", "volatile"))

# Probes that are complete without a colon.
BARE_PROBES = frozenset(("BEGIN", "END", "begin", "end"))

# Every provider of bpftrace 0.27 with its short name and the names older versions used.
PROVIDERS = frozenset(
    (
        "begin end BEGIN END bench test self hardware h interval i iter it fentry f fexit fr kfunc kretfunc"
        " kprobe k kretprobe kr profile p rawtracepoint rt software s tracepoint t uprobe u uretprobe ur"
        " usdt U watchpoint w asyncwatchpoint aw"
    ).split()
)

# Functions that take arguments: for suggestions only, the analyser decides what exists.
FUNCTIONS = frozenset(
    (
        "assert assert_str avg bswap buf cat cgroup_path cgroupid clear count default_str_length delete"
        " errorf exit fail find getopt globmatch has_key hist is_array is_integer is_literal is_ptr is_str"
        " is_unsigned_integer join kaddr kfunc_allowed kfunc_exist kptr ksym kstack len lhist macaddr max"
        " memcmp min nsecs ntop override path percpu_kaddr print printf pton reg signal signal_thread"
        " skboutput socket_cookie stats static_assert str strcap strcontains strerror strftime strlen strncmp"
        " strstr sum syscall_name system time tseries uaddr unwatch uptr ustack usym warnf zero"
    ).split()
)


def is_builtin(name: str) -> bool:
    """Whether a bare name is a builtin variable (``pid``, ``arg0``, ``retval``...)."""
    return name in _BUILTINS or _NUMBERED.match(name) is not None


def builtins() -> frozenset[str]:
    """All builtin names; the numbered ones as ``arg0`` and ``sarg0``."""
    return _BUILTINS | {"arg0", "sarg0"}
