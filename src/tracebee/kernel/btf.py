"""BTF objects in the kernel: types loaded for our own programs, vmlinux's and the modules'."""

from __future__ import annotations

from errno import E2BIG

from tracebee import uapi
from tracebee.errors import KernelError
from tracebee.kernel.attr import BTF_INFO, BTF_LOAD
from tracebee.kernel.bpf import fd_by_id, ids, info_by_fd, try_bpf
from tracebee.kernel.fd import Fd
from tracebee.kernel.syscall import address
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_ENOSPC = -28
_LOG_SIZE = 1 << 16
_LOG_MAX = 1 << 24


class BtfInfo(NamedTuple):
    """``struct bpf_btf_info`` without its pointers."""

    id: int
    size: int
    name: str
    is_kernel: bool


class Btf(Fd):
    """A BTF object held by its descriptor."""

    __slots__ = ()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Load type information for programs and maps of ours (``BPF_BTF_LOAD``).

        :param data: a whole BTF blob, header first, in the host's byte order.
        :raises VerifierError: the kernel refuses it; ``log`` says where.
        """
        fd = _try_load(data)
        if fd < 0:
            raise _load_error(data, -fd)
        return cls(fd)

    @classmethod
    def try_load(cls, data: bytes) -> Self | None:
        """As :meth:`load`, for callers to whom a refusal is an answer."""
        fd = _try_load(data)
        return cls(fd) if fd >= 0 else None

    @classmethod
    def by_id(cls, object_id: int) -> Self:
        """The BTF object with an id."""
        return cls(fd_by_id(uapi.BPF_BTF_GET_FD_BY_ID, object_id, f"BTF {object_id}"))

    @staticmethod
    def ids() -> Iterator[int]:
        """Ids of all BTF objects in the kernel."""
        return ids(uapi.BPF_BTF_GET_NEXT_ID)

    def info(self) -> BtfInfo:
        """Its id, size in bytes, name, and whether it is the kernel's own."""
        name = bytearray(64)
        info = BTF_INFO.pack(name=address(name), name_len=len(name))
        try:
            info_by_fd(self.fd, BTF_INFO, info)
        except KernelError as error:
            if error.errno != E2BIG:
                raise
            # Before 5.11 only programs had BTF, and it had no name: fields for one must be empty.
            info = info_by_fd(self.fd, BTF_INFO)
        text = bytes(name).partition(b"\0")[0].decode()
        return BtfInfo(
            BTF_INFO.get(info, "id"),
            BTF_INFO.get(info, "btf_size"),
            text,
            bool(BTF_INFO.get(info, "kernel_btf")),
        )

    def data(self) -> bytes:
        """The raw BTF; a module's is split BTF, on top of vmlinux's."""
        blob = bytearray(self.info().size)
        info_by_fd(self.fd, BTF_INFO, BTF_INFO.pack(btf=address(blob), btf_size=len(blob)))
        return bytes(blob)


def _try_load(data: bytes) -> int:
    return try_bpf(uapi.BPF_BTF_LOAD, BTF_LOAD.pack(btf=address(data), btf_size=len(data)))


def _load_error(data: bytes, number: int) -> Exception:
    from tracebee.errors import VerifierError
    from tracebee.kernel.explain import bpf_error, describe, errno_name

    size = _LOG_SIZE
    while True:
        log = bytearray(size)
        attr = BTF_LOAD.pack(
            btf=address(data),
            btf_size=len(data),
            btf_log_buf=address(log),
            btf_log_size=size,
            btf_log_level=1,
        )
        fd = try_bpf(uapi.BPF_BTF_LOAD, attr)
        if fd >= 0:  # it was refused a moment ago for a reason that has passed, memory for instance
            Btf(fd).close()
            break
        if fd != _ENOSPC or size >= _LOG_MAX:
            break
        size *= 4
    text = bytes(log).partition(b"\0")[0].decode(errors="replace").strip()
    if not text:
        return bpf_error(uapi.BPF_BTF_LOAD, number)
    meaning, hint = describe("BPF_BTF_LOAD", number)
    last = text.splitlines()[-1]
    message = f"bpf(BPF_BTF_LOAD) failed: {meaning} ({errno_name(number)}): {last}"
    return VerifierError("bpf(BPF_BTF_LOAD)", number, message, text, hint=hint)
