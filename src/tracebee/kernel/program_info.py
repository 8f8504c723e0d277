"""What the kernel says of a program: ``struct bpf_prog_info``, its code and its lists."""

from __future__ import annotations

import struct

from tracebee.kernel.attr import PROG_INFO
from tracebee.kernel.bpf import info_by_fd
from tracebee.kernel.syscall import address
from tracebee.typed import NamedTuple

_NAME_BYTES = 15  # BPF_OBJ_NAME_LEN without its NUL


class ProgramInfo(NamedTuple):
    """``struct bpf_prog_info`` without its arrays, by the kernel's names."""

    type: int
    id: int
    tag: str
    jited_prog_len: int
    xlated_prog_len: int
    load_time: int
    created_by_uid: int
    nr_map_ids: int
    name: str
    ifindex: int
    netns_dev: int
    netns_ino: int
    gpl_compatible: bool
    btf_id: int
    run_time_ns: int
    run_cnt: int
    recursion_misses: int
    verified_insns: int
    attach_btf_obj_id: int
    attach_btf_id: int


class ProgramDetails(NamedTuple):
    """The arrays of ``struct bpf_prog_info``; empty where the kernel hides them.

    ``func_info`` rows are (slot, BTF id); ``line_info`` (slot, file offset, text offset, line and
    column); ``jited_line_info`` addresses, one per line.
    """

    xlated: bytes
    jited: bytes
    map_ids: tuple[int, ...]
    jited_ksyms: tuple[int, ...]
    jited_func_lens: tuple[int, ...]
    func_info: tuple[tuple[int, int], ...]
    line_info: tuple[tuple[int, int, int, int], ...]
    jited_line_info: tuple[int, ...]
    prog_tags: tuple[str, ...]


def read(fd: int) -> ProgramInfo:
    """What the kernel says of a program."""
    info = info_by_fd(fd, PROG_INFO)
    special = {
        "tag": PROG_INFO.get(info, "tag").hex(),
        "name": _text(PROG_INFO.get(info, "name")),
        "gpl_compatible": bool(PROG_INFO.get(info, "flags") & 1),
    }
    return ProgramInfo(
        **{
            name: special[name] if name in special else PROG_INFO.get(info, name)
            for name in ProgramInfo._fields
        }
    )


def full_name(fd: int, info: ProgramInfo) -> str:
    """A program's whole name: the kernel keeps 15 bytes of it, its type information all."""
    if len(info.name) < _NAME_BYTES or not info.btf_id:
        return info.name
    functions = read_details(fd).func_info
    if not functions:
        return info.name
    from tracebee.btf.reader import Btf
    from tracebee.kernel.btf import Btf as KernelBtf

    with KernelBtf.by_id(info.btf_id) as held:
        return Btf.from_bytes(held.data()).type(functions[0][1]).name


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode(errors="replace")


# Arrays of struct bpf_prog_info: pointer field, count field, bytes of one element.
_ARRAYS = (
    ("xlated_prog_insns", "xlated_prog_len", 1),
    ("jited_prog_insns", "jited_prog_len", 1),
    ("map_ids", "nr_map_ids", 4),
    ("jited_ksyms", "nr_jited_ksyms", 8),
    ("jited_func_lens", "nr_jited_func_lens", 4),
    ("func_info", "nr_func_info", 8),
    ("line_info", "nr_line_info", 16),
    ("jited_line_info", "nr_jited_line_info", 8),
    ("prog_tags", "nr_prog_tags", 8),
)
_RECORD_SIZES = {
    "func_info": "func_info_rec_size",
    "line_info": "line_info_rec_size",
    "jited_line_info": "jited_line_info_rec_size",
}


def read_details(fd: int) -> ProgramDetails:
    """A program's code, maps, functions and lines."""
    counts = info_by_fd(fd, PROG_INFO)
    buffers: dict[str, bytearray] = {}
    request = PROG_INFO.pack()
    for pointer, count, size in _ARRAYS:
        buffers[pointer] = bytearray(PROG_INFO.get(counts, count) * size)
        PROG_INFO.set(request, **{count: PROG_INFO.get(counts, count), pointer: address(buffers[pointer])})
        if pointer in _RECORD_SIZES:
            PROG_INFO.set(request, **{_RECORD_SIZES[pointer]: size})
    answer = info_by_fd(fd, PROG_INFO, request)

    def array(pointer: str, code: str) -> tuple[int, ...]:
        row = next(row for row in _ARRAYS if row[0] == pointer)
        # An address of 0 is how the kernel says that this process may not see the array.
        if not PROG_INFO.get(answer, pointer):
            return ()
        number = min(PROG_INFO.get(answer, row[1]), len(buffers[pointer]) // row[2])
        return struct.unpack_from(
            f"={number * row[2] // struct.calcsize('=' + code)}{code}", buffers[pointer]
        )

    functions, lines = array("func_info", "I"), array("line_info", "I")
    tags = bytes(buffers["prog_tags"])
    return ProgramDetails(
        bytes(buffers["xlated_prog_insns"]) if PROG_INFO.get(answer, "xlated_prog_insns") else b"",
        bytes(buffers["jited_prog_insns"]) if PROG_INFO.get(answer, "jited_prog_insns") else b"",
        array("map_ids", "I"),
        array("jited_ksyms", "Q"),
        array("jited_func_lens", "I"),
        tuple((functions[i], functions[i + 1]) for i in range(0, len(functions), 2)),
        tuple((lines[i], lines[i + 1], lines[i + 2], lines[i + 3]) for i in range(0, len(lines), 4)),
        array("jited_line_info", "Q"),
        tuple(tags[i : i + 8].hex() for i in range(0, len(tags), 8)),
    )
