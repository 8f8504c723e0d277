"""A process that is looked at: it makes itself unlike others, says what it is, and calls lseek(2).

Each line on standard input makes it call lseek once more, from a second thread, with each of its open files.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import socket
import subprocess
import sys
import threading

PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_GET_DUMPABLE = 15, 36, 3
SO_NO_CHECK, SO_BUF_LOCK, IP_FREEBIND = 11, 72, 15
SOCK_BINDADDR_LOCK = 4  # in the kernel alone: an address was given to bind(2)
CLONE_FS, CLONE_NEWNS = 0x200, 0x20000

folder = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str) -> str:
    """A file system that only this process sees; the path of its root."""
    root = f"{folder}/{kind}"
    os.mkdir(root)
    subprocess.run(["mount", "-t", kind, kind, root], check=True)
    return root


def open_cgroup() -> tuple[int, dict[str, object]]:
    """A new cgroup's directory, and what is known of it."""
    root = mount("cgroup2")
    with open("/proc/self/cgroup") as lines:
        own = next(line for line in lines if line.startswith("0::")).strip()[3:]
    name = f"tracebee-{os.getpid()}"
    path = f"{root}/{name}"
    os.mkdir(path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    facts = {"name": name, "id": os.stat(path).st_ino, "parent": os.stat(root).st_ino}
    facts["own"] = os.stat(root + own).st_ino
    os.rmdir(path)
    return fd, facts


def open_socket() -> tuple[socket.socket, dict[str, object]]:
    """A socket with options that are kept in bit-fields, in a byte, in a word."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 30000)
    s.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 77)
    s.bind(("127.0.0.1", 0))
    s.connect(("127.0.0.1", 9))
    asked = socket.SOL_SOCKET
    facts = {
        "family": int(s.family),
        "type": int(s.type),
        "protocol": socket.IPPROTO_UDP,
        "port": s.getsockname()[1],
        "peer": socket.htons(s.getpeername()[1]),
        "address": int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder),
        "rcvbuf": s.getsockopt(asked, socket.SO_RCVBUF),
        "userlocks": s.getsockopt(asked, SO_BUF_LOCK) | SOCK_BINDADDR_LOCK,
        "reuse": 1,
        "reuseport": s.getsockopt(asked, socket.SO_REUSEPORT),
        "no_check": s.getsockopt(asked, SO_NO_CHECK),
        "freebind": s.getsockopt(socket.IPPROTO_IP, IP_FREEBIND),
        "ttl": s.getsockopt(socket.IPPROTO_IP, socket.IP_TTL),
    }
    return s, facts


def open_file() -> tuple[int, dict[str, object]]:
    """A file of seven bytes at position five, changed long ago."""
    inside = mount("tmpfs") + "/directory"
    os.mkdir(inside)
    path = f"{inside}/looked-at"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    os.write(fd, b"content")
    os.lseek(fd, 5, os.SEEK_SET)
    os.utime(path, (1_000_000_000, 1_100_000_000))
    stat = os.stat(path)
    facts = {
        "name": "looked-at",
        "in": "directory",
        "ino": stat.st_ino,
        "mode": stat.st_mode,
        "size": stat.st_size,
        "mtime": int(stat.st_mtime),
        "position": 5,
        "flags": fcntl.fcntl(fd, fcntl.F_GETFL),
    }
    return fd, facts


def main() -> None:
    """Runs in the second thread, so that thread and process differ."""
    if libc.unshare(CLONE_FS) or libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    libc.prctl(PR_SET_NAME, b"second thread", 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (231, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
    cgroup, cgroup_facts = open_cgroup()
    sock, socket_facts = open_socket()
    file, file_facts = open_file()
    os.setresuid(1234, 0, 0)
    own = {
        "tgid": os.getpid(),
        "pid": threading.get_native_id(),
        "dumpable": libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
        "exe": os.stat("/proc/self/exe").st_mode,
    }
    print(json.dumps({"own": own, "file": file_facts, "socket": socket_facts, "cgroup": cgroup_facts}))
    sys.stdout.flush()
    for _ in sys.stdin:
        for fd in (cgroup, sock.fileno(), file):
            libc.lseek(fd, ctypes.c_long(0), os.SEEK_CUR)
        print("done", flush=True)


thread = threading.Thread(target=main)
thread.start()
thread.join()
