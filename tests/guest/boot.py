"""Boot a guest kernel on the host's file system and run one command in it.

    python tests/guest/boot.py [--deadline SECONDS] [--series 6.12] -- COMMAND [ARG ...]

The guest's root is the host's, over virtiofs, so the command sees this checkout and its virtual
environment. Its output is copied here as it comes; its exit status becomes ours. A guest that
does not end by its deadline is killed, and what its console said is printed. One guest runs at
a time: a second caller waits for the first.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import initramfs

from kernel import CACHE, GuestUnavailableError, fetch

ROOT = Path(__file__).resolve().parents[2]
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
MEMORY = "2G"

INIT = """#!/bin/sh
# The guest's first process: file systems, the command, its status, power off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -sf /proc/self/fd /dev/fd
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
# Fresh /tmp and /run, with this checkout still where it is, should it be below one of them.
mkdir /dev/checkout
mount --bind {root} /dev/checkout
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p {root}
mount --bind /dev/checkout {root}
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# The kernel's configuration, where distributions have it.
[ -d /boot ] && mount --bind {boot} /boot
# A module, so that there is module BTF. The host may have no /lib/modules to mount over.
insmod {modules}/*/kernel/drivers/net/dummy.ko*
ip link set lo up
hostname guest
export TRACEBEE_GUEST=1
cd {directory}
({command}) >{run}/output 2>&1 </dev/null
echo $? >{run}/status
sync
echo 1 >/proc/sys/kernel/sysrq
echo o >/proc/sysrq-trigger
sleep 60
"""


def run(command: list[str], deadline: float, series: str) -> int:
    """Boot, run the command, return its exit status (or 124 when the deadline passed)."""
    kernel = fetch(series)
    daemon_path = next((path for path in VIRTIOFSD if os.path.exists(path)), None)
    if daemon_path is None or shutil.which("qemu-system-x86_64") is None:
        raise GuestUnavailableError("qemu-system-x86 and qemu-system-common are needed: apt-get install them")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as run_dir:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(run_dir)
        init = folder / "init"
        quoted = shlex.quote
        init.write_text(
            INIT.format(
                modules=quoted(str(kernel.modules)),
                boot=quoted(str(kernel.image.parent)),
                root=quoted(str(ROOT)),
                directory=quoted(os.getcwd()),
                command=shlex.join(command),
                run=quoted(str(folder)),
            )
        )
        init.chmod(0o755)
        (folder / "output").touch()
        first = initramfs.build(kernel.modules, str(init), folder)
        socket = folder / "fs.sock"
        with (folder / "virtiofsd.log").open("w") as log:
            daemon = subprocess.Popen(
                [
                    daemon_path,
                    f"--socket-path={socket}",
                    *("-o", "source=/", "-o", "cache=auto,sandbox=chroot"),
                ],
                stdout=log,
                stderr=log,
            )
        machine = None
        try:
            _wait_for(socket, daemon, folder / "virtiofsd.log")
            with (folder / "console").open("w") as console:
                machine = subprocess.Popen(
                    _qemu(str(kernel.image), str(socket), str(init), first),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                )
            return _follow(machine, folder, deadline)
        finally:
            for process in (machine, daemon):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()


def _qemu(image: str, socket: str, init: str, first: Path | None) -> list[str]:
    # An old CPU model and no mitigations: about twice as fast under software emulation.
    # "kvm" is for machines where nested virtualisation is known to work.
    accel = os.environ.get("TRACEBEE_GUEST_ACCEL", "tcg")
    return [
        "qemu-system-x86_64",
        *(["-accel", "tcg,thread=multi", "-cpu", "Nehalem"] if accel == "tcg" else ["-accel", accel]),
        *(["-m", MEMORY, "-smp", "2", "-nographic", "-no-reboot", "-kernel", image]),
        *(["-initrd", str(first)] if first else []),
        *(["-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on", "-numa", "node,memdev=mem"]),
        *(["-chardev", f"socket,id=c0,path={socket}"]),
        *(["-device", "vhost-user-fs-pci,queue-size=1024,chardev=c0,tag=rootfs"]),
        "-append",
        "console=ttyS0 quiet panic=-1 mitigations=off root=rootfs rootfstype=virtiofs rw "
        f"kernel.perf_event_paranoid=-1 init={init}",
    ]


def _wait_for(socket: Path, daemon: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if socket.exists():
            return
        if daemon.poll() is not None:
            break
        time.sleep(0.05)
    raise GuestUnavailableError(f"virtiofsd did not start: {log.read_text().strip()}")


def _follow(machine: subprocess.Popen[bytes], folder: Path, deadline: float) -> int:
    """Copy the command's output as it grows, until the guest is down or the time is up."""
    end = time.monotonic() + deadline
    with (folder / "output").open("rb") as output:
        while True:
            down = machine.poll() is not None
            shutil.copyfileobj(output, sys.stdout.buffer)
            sys.stdout.flush()
            if down:
                break
            if time.monotonic() > end:
                print(f"\nguest: not down after {deadline:.0f} s, killed; its console said:")
                print((folder / "console").read_text(errors="replace")[-4000:])
                return 124
            time.sleep(0.2)
    status = folder / "status"
    if not status.exists():
        print("\nguest: went down before the command ended; its console said:")
        print((folder / "console").read_text(errors="replace")[-4000:])
        return 125
    return int(status.read_text())


def main() -> int:
    """Parse the command line; errors of the harness itself exit with 2."""
    parser = argparse.ArgumentParser(description="Run a command in a guest kernel.")
    parser.add_argument("--deadline", type=float, default=600, help="seconds until the guest is killed")
    parser.add_argument("--series", default="6.12", help="Debian kernel series")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("a command is needed after --")
    # Ended from outside, the guest ends too: as an exception this passes through its clean-up.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return run(command, options.deadline, options.series)
    except GuestUnavailableError as e:
        print(f"guest: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
