"""Who is traced right now: what programs ask helpers about, kept where native code finds it.

The block that ``current.s`` reads, by byte offset::

     0  u64  tgid << 32 | tid
     8  u64  gid << 32 | uid
    16  u64  attach cookie
    24  u64  address of the probed function
    32  u64  process whose memory is read
    40  u64  cgroup id
    48  char comm[16]
"""

from __future__ import annotations

import ctypes
import os
import struct

from tracebee.engine.user import ptrace
from tracebee.vm.environment import Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.engine.user.tracer import Thread

_BLOCK = struct.Struct("=QQQQQQ16s")
_MAX_FRAMES = 127
_MAX_FRAME_SIZE = 1 << 20  # a larger step between frame pointers is no frame


class Current(Environment):
    """The traced thread, as helpers see it: natively by the block, in Python by the methods.

    Without a thread it is this process, for BEGIN and END.
    """

    def __init__(self) -> None:
        super().__init__()
        self.block = ctypes.create_string_buffer(_BLOCK.size)
        self.address = ctypes.addressof(self.block)
        self.thread: Thread | None = None
        self._owners: dict[int, tuple[int, int]] = {}  # uid_gid and cgroup id by process
        self.cookie = self._function = 0

    def enter(self, thread: Thread | None, cookie: int = 0, function: int = 0) -> None:
        """Say who runs next."""
        last = self.thread
        if thread is last and last is not None and (cookie, function) == (self.cookie, self._function):
            return  # the same as last time
        self.thread = thread
        self._function = function
        self.cookie = cookie
        pid = os.getpid() if thread is None else thread.pid
        owner = self._owners.get(pid) or self._owner(pid)
        who = super().pid_tgid() if thread is None else pid << 32 | thread.tid
        comm = super().comm() if thread is None else thread.comm()
        _BLOCK.pack_into(self.block, 0, who, owner[0], cookie, function, pid, owner[1], comm)

    def forget(self, pid: int) -> None:
        """A process may have changed who it is (exec)."""
        self._owners.pop(pid, None)
        self.thread = None

    def _owner(self, pid: int) -> tuple[int, int]:
        uid = gid = 0
        try:
            with open(f"/proc/{pid}/status") as file:
                for line in file:
                    if line.startswith(("Uid:", "Gid:")):
                        number = int(line.split()[1])
                        if line[0] == "U":
                            uid = number
                        else:
                            gid = number
        except OSError:
            return 0, 0
        found = self._owners[pid] = (gid << 32 | uid, _cgroup_id(pid))
        return found

    def word(self, offset: int) -> int:
        """One of the block's numbers."""
        return int(struct.unpack_from("=Q", self.block, offset)[0])

    def pid_tgid(self) -> int:
        """Process id in the high half, thread id in the low."""
        return self.word(0)

    def uid_gid(self) -> int:
        """Group id in the high half, user id in the low."""
        return self.word(8)

    def comm(self) -> bytes:
        """The thread's name."""
        return bytes(_BLOCK.unpack_from(self.block)[6].rstrip(b"\0"))

    def process(self) -> int:
        """The process whose memory ``read`` reads."""
        return os.getpid() if self.thread is None else self.thread.pid

    def frames(self, user: bool) -> Sequence[int]:
        """The user stack by frame pointers, innermost first; there is no kernel stack here."""
        thread = self.thread
        if not user or thread is None:
            return ()
        regs, space = thread.regs, thread.space
        found = [regs[ptrace.RIP]]
        frame, lowest = regs[ptrace.RBP], regs[ptrace.RSP]
        # As the kernel's perf_callchain_user does: each frame is {caller's frame, return address}.
        while len(found) < _MAX_FRAMES and lowest <= frame < lowest + _MAX_FRAME_SIZE and frame % 8 == 0:
            try:
                data = space.read(frame, 16)
            except OSError:
                break
            if len(data) < 16:
                break
            after, back = struct.unpack("=QQ", data)
            if not back:
                break
            found.append(back)
            lowest, frame = frame + 16, after
        return found


def _cgroup_id(pid: int) -> int:
    """The inode of the process's cgroup version 2 directory; 0 where there is none."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            path = next(line.rstrip("\n")[3:] for line in file if line.startswith("0::"))
        return os.stat(f"/sys/fs/cgroup{path}").st_ino
    except (OSError, StopIteration):
        return 0
