"""Process memory maps, by the example of proc_pid_maps(5) and by a process's own."""

import mmap
import os

from tracebee.kernel import procmaps
from tracebee.kernel.procmaps import Mapping

MAPS = """\
55d0c8a00000-55d0c8a10000 r--p 00000000 fe:01 1234  /usr/bin/x
55d0c8a10000-55d0c8a20000 r-xp 00010000 fe:01 1234  /usr/bin/x
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000002000-7f0000003000 r-xs 00001000 fe:01 99    /tmp/a b\\012c (deleted)
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0     [vdso]
"""
DEVICE = os.makedev(0xFE, 1)


def test_a_map_is_parsed() -> None:
    assert procmaps.parse(MAPS) == [
        Mapping(0x55D0C8A00000, 0x55D0C8A10000, 0, 1234, "/usr/bin/x", DEVICE, "r--p"),
        Mapping(0x55D0C8A10000, 0x55D0C8A20000, 0x10000, 1234, "/usr/bin/x", DEVICE, "r-xp"),
        Mapping(0x7F0000000000, 0x7F0000001000, 0, 0, "", 0, "rwxp"),
        Mapping(0x7F0000002000, 0x7F0000003000, 0x1000, 99, "/tmp/a b\nc", DEVICE, "r-xs"),
        Mapping(0x7FFD00000000, 0x7FFD00002000, 0, 0, "[vdso]", 0, "r-xp"),
    ]


def test_rights_and_places() -> None:
    data, code, both, *_ = procmaps.parse(MAPS)
    assert [(m.executable, m.writable) for m in (data, code, both)] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert [code.holds(at) for at in (0xFFFF, 0x10000, 0x1FFFF, 0x20000)] == [False, True, True, False]


def test_a_file_is_named_as_stat_names_it() -> None:
    with open(__file__, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        stat = os.fstat(file.fileno())
        (mapped,) = [m for m in procmaps.read(os.getpid()) or () if m.path == os.path.realpath(__file__)]
    assert (mapped.file, mapped.rights) == ((stat.st_dev, stat.st_ino), "r--s")


def test_a_process_that_is_not_there() -> None:
    assert procmaps.read(2**22 + 1) is None
