"""The process of ``-c COMMAND``: started, held before it runs, let go when everything is attached.

The child waits on a pipe between fork and exec, so no signal and no ptrace is needed to hold it; it is in
place (it has its pid) before a script is compiled for it.
"""

from __future__ import annotations

import os
import signal

from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TRIES = 200  # looks at a new program's memory map, some tens of microseconds each
_FILTER_ROOM = 1 << 16
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, (1 << 64) - 1
_GRACE = 100  # times 10 ms for a command to end after SIGTERM


class Command:
    """A command held before exec.

    :raises UsageError: no such program, or it cannot be executed.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        if not arguments:
            raise UsageError("-c needs a command")
        self.path = find_program(arguments[0])
        self._arguments = list(arguments)
        go_read, self._go = os.pipe2(os.O_CLOEXEC)
        self._failure, fail_write = os.pipe2(os.O_CLOEXEC)
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._child(go_read, fail_write)
        os.close(go_read)
        os.close(fail_write)

    def _child(self, go: int, fail: int) -> None:
        # Only async-signal-safe work is done here, and nothing may return into the parent's code.
        try:
            os.close(self._go)
            _allow_tracer()
            word = os.read(go, _FILTER_ROOM)
            if word == b"":
                os._exit(1)  # tracebee died or gave up: the command is not to run at all
            if len(word) > 1:
                from tracebee.engine.user.seccomp import install

                install(word[1:])
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            os.execv(self.path, self._arguments)
        except OSError as error:
            os.write(fail, str(error.errno or 0).encode())
        finally:
            os._exit(127)

    def start(self, seccomp_filter: bytes = b"") -> None:
        """Let it run.

        :param seccomp_filter: a filter that it is put under before its program starts.
        :raises UsageError: it cannot be executed.
        """
        if self._go < 0:
            return
        os.write(self._go, b"x" + seccomp_filter)
        os.close(self._go)
        self._go = -1
        failure = os.read(self._failure, 16)
        if failure:
            raise UsageError(f"cannot run '{self.path}': {os.strerror(int(failure))}")
        self._wait_until_mapped()

    def _wait_until_mapped(self) -> None:
        # The kernel closes our pipe a little before it maps the program. Whoever wants to know what the
        # process's addresses mean must see that map, and a short process may be gone in a millisecond.
        for _ in range(_TRIES):
            try:
                program = os.readlink(f"/proc/{self.pid}/exe")
                with open(f"/proc/{self.pid}/maps") as maps:
                    if program in maps.read():
                        return
            except OSError:
                return
            if self.reap() is not None:
                return
            os.sched_yield()

    def reap(self) -> int | None:
        """Its wait status if it has ended, else None."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status

    def close(self) -> None:
        """End it if it still runs, with SIGTERM, after a second with SIGKILL."""
        for fd in (self._go, self._failure):
            if fd >= 0:
                os.close(fd)
        self._go = self._failure = -1
        if self.reap() is not None:
            return
        import time

        os.kill(self.pid, signal.SIGTERM)
        for _ in range(_GRACE):
            if self.reap() is not None:
                return
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        _, self.status = os.waitpid(self.pid, 0)


def _allow_tracer() -> None:
    """Let a sibling trace this process, where Yama reserves that to parents (the user engine is one)."""
    if os.geteuid():
        from tracebee.kernel.syscall import syscall

        syscall("prctl", _PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)


def find_program(name: str) -> str:
    """Path of a program as a shell would find it.

    :raises UsageError: there is none.
    """
    if "/" in name:
        if os.path.isfile(name) and os.access(name, os.X_OK):
            return name
        raise UsageError(f"'{name}' is not a program that can be run")
    for directory in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        path = os.path.join(directory or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise UsageError(f"no program '{name}' on PATH")
