"""A script's programs ready to run on behalf of traced threads: compiled by the JIT, or interpreted.

Machine code runs without checks, so only what the verifier accepts is compiled. The interpreter, which
checks every access, takes the rest, and everything where memory may not be made executable.
"""

from __future__ import annotations

import ctypes
import functools
import os

from tracebee.engine.user.current import Current
from tracebee.errors import PrivilegeError, UnsupportedError
from tracebee.isa.helpers import BY_NAME
from tracebee.vm.helpers import Helpers
from tracebee.vm.interpreter import Machine
from tracebee.vm.memory import Memory, Region

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.vm.interpreter import Outcome
    from tracebee.vm.jit.native import NativeProgram
    from tracebee.vm.native.library import NativeFunctions, NativeHelpers
    from tracebee.vm.session import Vm

_EFAULT = 14
_EOPNOTSUPP = 95
_U64 = ctypes.c_uint64
_FUNCTION = ctypes.CFUNCTYPE(_U64, *[_U64] * 5)
CONTEXT_SIZE = 512  # the largest record a program is given, with room for a file name


class TracedHelpers(Helpers):
    """The VM's helpers, and those that ask about a probe."""

    environment: Current
    record: Record

    def bpf_get_attach_cookie(self, *_: object) -> Outcome:
        """What the probe's name is found by."""
        return self.environment.cookie

    def bpf_get_func_ip(self, *_: object) -> Outcome:
        """The probed function."""
        return self.environment.word(24)

    def bpf_get_current_cgroup_id(self, *_: object) -> Outcome:
        """The process's cgroup."""
        return self.environment.word(40)

    def bpf_get_ns_current_pid_tgid(
        self, m: Machine, _: int, __: int, to: int, size: int, *___: int
    ) -> Outcome:
        """Thread and process id as this process's namespace has them, which is the traced one's."""
        who = self.environment.pid_tgid()
        m.memory.write(to, who.to_bytes(8, "little")[: size & 0xFFFFFFFF])
        return 0

    def bpf_probe_read_kernel(self, m: Machine, to: int, size: int, source: int, *_: int) -> Outcome:
        """Bytes of the record; zeros for all other memory of the kernel, which is not to be had."""
        data, result = self.record.read(source, size & 0xFFFFFFFF)
        m.memory.write(to, data)
        return result

    def bpf_probe_read_kernel_str(self, m: Machine, to: int, size: int, source: int, *_: int) -> Outcome:
        """A string in the record, with its NUL: the number of bytes."""
        data, result = self.record.read_string(source, size & 0xFFFFFFFF)
        m.memory.write(to, data)
        return result


class Record:
    """The context that programs are given, and what they read of it through helpers."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(CONTEXT_SIZE)
        self.address = ctypes.addressof(self.buffer)

    def read(self, source: int, size: int) -> tuple[bytes, int]:
        """So many bytes at an address, and 0; zeros and -EFAULT where that is not in the record."""
        start = source - self.address
        if not 0 <= start <= CONTEXT_SIZE - size:
            return bytes(size), -_EFAULT
        return self.buffer.raw[start : start + size], 0

    def read_string(self, source: int, size: int) -> tuple[bytes, int]:
        """The string there, cut to a size that counts its NUL, and its length with that."""
        start = source - self.address
        if not 0 <= start < CONTEXT_SIZE or not size:
            return bytes(size), -_EFAULT if size else 0
        text = self.buffer.raw[start : start + size - 1].partition(b"\0")[0] + b"\0"
        return text, len(text)


class Programs:
    """Programs by name; ``run`` runs one on a context.

    :param vm: the programs, linked against its maps.
    """

    def __init__(self, vm: Vm, current: Current) -> None:
        self._programs, self._object = vm.programs, vm.obj
        self.space, self.current = vm.space, current
        self.helpers = TracedHelpers(self.space, current)
        self._record = self.helpers.record = Record()
        self.context, self.context_address = self._record.buffer, self._record.address
        self._native: dict[str, NativeProgram] = {}
        self._machines: dict[str, Machine] = {}
        self._owned: list[NativeHelpers | NativeFunctions | NativeProgram] = []
        self._compile()

    def _compile(self) -> None:
        try:
            from tracebee.vm.jit.compiler import compile_program
            from tracebee.vm.jit.native import NativeProgram
            from tracebee.vm.jit.target import Environment
            from tracebee.vm.native.library import NativeFunctions, NativeHelpers, text

            common = NativeHelpers(self.space)
            self._owned.append(common)
            own = NativeFunctions((_text(self.current.address), text("memory.s")), {})
            self._owned.append(own)
            table = dict(common.table) | self._python_table() | dict(own.helpers)
        except (UnsupportedError, PrivilegeError):
            return  # no machine code here at all: the interpreter runs everything
        from tracebee.vm.verifier.verify import verify

        for name, program in self._programs.items():
            if not verify(self._object, name).accepted:
                continue
            try:
                native = NativeProgram(compile_program(program, Environment(helpers=table)))
            except UnsupportedError:
                continue  # it calls what only the interpreter has, such as callbacks
            self._owned.append(native)
            self._native[name] = native

    @property
    def interpreted(self) -> list[str]:
        """Names of the programs that the interpreter runs."""
        return [name for name in self._programs if name not in self._native]

    def run(self, name: str, address: int, size: int = CONTEXT_SIZE) -> int:
        """Run a program with a context of ``size`` bytes at an address; returns r0.

        :raises ProgramFaultError: the interpreter caught it misbehaving.
        """
        native = self._native.get(name)
        if native is not None:
            return native.run(address)
        return self._interpret(name, address, size)

    def _interpret(self, name: str, address: int, size: int) -> int:
        machine = self._machines.get(name)
        if machine is None:
            memory = Memory()
            for map_ in self.space.maps:
                for region in map_.regions():
                    memory.add(region)
            memory.add(Region("context", self.context))
            machine = Machine(self._programs[name], helpers=self.helpers.table, memory=memory)
            self._machines[name] = machine
        if address != self.context_address:
            ctypes.memmove(self.context_address, address, min(size, CONTEXT_SIZE))
        machine.start(self.context_address)
        return machine.run()

    def _python_table(self) -> dict[int, int]:
        """Helpers without native code, as functions that native code can call."""
        offered: dict[str, Callable[..., int]] = {
            "get_stackid": self._stack_id,
            "get_stack": self._stack,
            "jiffies64": lambda *_: self.current.clock(1) // 4_000_000,
            "get_numa_node_id": lambda *_: 0,
            "probe_read_kernel": lambda to, size, source, *_: _put(to, self._record.read(source, size)),
            "probe_read_kernel_str": lambda to, size, source, *_: _put(
                to, self._record.read_string(source, size)
            ),
        }
        # What only a kernel has: its task structure, its paths, changing a function's result.
        for name in ("get_current_task", "get_current_task_btf", "d_path", "override_return"):
            offered[name] = lambda *_: 0
        for name in ("get_socket_cookie", "send_signal", "trace_printk"):
            offered[name] = lambda *_: -_EOPNOTSUPP & (1 << 64) - 1
        self._callbacks = {name: _FUNCTION(_unsigned(function)) for name, function in offered.items()}
        return {
            BY_NAME[name].number: ctypes.cast(function, ctypes.c_void_p).value or 0
            for name, function in self._callbacks.items()
        }

    def _stack_id(self, _: int, map_: int, flags: int, *__: int) -> int:
        found = self.helpers.bpf_get_stackid(None, 0, map_, flags)  # type: ignore[arg-type]
        return found if isinstance(found, int) else 0

    def _stack(self, _: int, buffer: int, size: int, flags: int, *__: int) -> int:
        frames = self.current.frames(bool(flags & 1 << 8))[flags & 0xFF :]
        data = b"".join(frame.to_bytes(8, "little") for frame in frames)[: size & ~7]
        ctypes.memmove(buffer, data, len(data))
        return len(data)

    def close(self) -> None:
        """Free the code; nothing may run any more."""
        for owned in reversed(self._owned):
            owned.close()
        self._owned.clear()
        self._native.clear()


def _put(to: int, read: tuple[bytes, int]) -> int:
    data, result = read
    ctypes.memmove(to, data, len(data))
    return result


def _unsigned(function: Callable[..., int]) -> Callable[..., int]:
    return lambda *arguments: function(*arguments) & (1 << 64) - 1


@functools.cache
def _text(block: int) -> str:
    with open(f"{os.path.dirname(__file__)}/current.s") as file:
        return file.read().replace("CURRENT", hex(block))
