"""From a script's text to a compiled script for this machine: what the command line and the library share."""

from __future__ import annotations

import os
import time

from tracebee.lang.compile import compile_script
from tracebee.lang.config import SETTINGS, from_environment
from tracebee.lang.frontend import load
from tracebee.lang.options import Options
from tracebee.probes.machine import Machine
from tracebee.probes.provider import Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from tracebee.errors import Diagnostic
    from tracebee.ir import Function
    from tracebee.lang.script import Script
    from tracebee.source import Source


def compile_text(
    source: Source,
    *,
    pid: int | None = None,
    command_pid: int | None = None,
    command_path: str | None = None,
    parameters: Sequence[str] = (),
    named: Mapping[str, str] | None = None,
    unsafe: bool = False,
    lasting: bool = False,
    user: bool = False,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    warn: Callable[[Diagnostic | str], None] | None = None,
    cpu_version: int | None = None,
    after_pass: Callable[[str, Function], None] | None = None,
) -> Script:
    """Compile a script for the running kernel.

    :param pid: the process it is to trace (``-p``).
    :param command_pid, command_path: the held process of ``-c`` and its program.
    :param lasting: it is to run without a process behind it (``--pin``).
    :param user: for the user engine: only what needs no privilege is looked at.
    :param config: settings that come before the script's own config block.
    :param environment: where ``BPFTRACE_...`` settings are read from; default: this process's.
    :param warn: called with each warning: findings about a place of the script, or plain text.
    :param cpu_version: 3 for code that older kernels take too; default: what the running kernel has.
    :param after_pass: called after each pass over the IR, to dump or check it.
    :raises SourceError: the script is wrong, with every error found.
    """
    machine = Machine(pid if pid is not None else command_pid, command=command_path, user=user)
    loaded = load(source, params=parameters, lookup=machine.records.named)
    settings: dict[str, Any] = {n: s.default for n, s in SETTINGS.items() if s.default is not None}
    settings |= from_environment(os.environ if environment is None else environment)
    settings |= {**(config or {}), **loaded.settings}
    provider = Provider(
        machine, missing=settings.get("missing_probes"), max_probes=int(settings["max_probes"])
    )
    script = compile_script(
        loaded.source,
        loaded.program,
        provider,
        lambda: machine.btf,
        options=Options(
            config=settings,
            parameters=parameters,
            named=named,
            unsafe=unsafe,
            lasting=lasting,
            cpid=command_pid,
            ncpus=_possible_cpus(),
            pid_namespace=_pid_namespace(),
            start=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            symbol=_kernel_address,
            user_symbol=_user_symbol,
            cpu_version=_cpu_version if cpu_version is None else cpu_version,
            warn=warn,
            after_pass=after_pass,
        ),
        definitions=loaded.definitions,
    )
    if warn is not None:
        for message in machine.warnings:
            warn(message)
    return script._replace(config={**script.config, "source": source.name})


def _cpu_version() -> int:
    from tracebee.errors import PrivilegeError
    from tracebee.kernel.features import has

    try:
        return 4 if has("isa_v4") else 3
    except PrivilegeError:
        return 4  # no kernel program then: the virtual machine has every instruction


def _possible_cpus() -> int:
    from tracebee.kernel.cpus import possible

    return len(possible())


# The inode of the first PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
_FIRST_PID_NAMESPACE = 0xEFFFFFFC


def _pid_namespace() -> tuple[int, int] | None:
    found = os.stat("/proc/self/ns/pid")
    return None if found.st_ino == _FIRST_PID_NAMESPACE else (found.st_dev, found.st_ino)


def _kernel_address(name: str) -> int:
    from tracebee.kernel.kallsyms import address_of

    return address_of(name) or 0


def _user_symbol(path: str, name: str) -> tuple[int, int]:
    from tracebee.elf import ElfFile, find_symbol

    with ElfFile(path) as image:
        found = find_symbol(image, name, tuple(range(16)))
    return (found.addr, found.size) if found is not None else (0, 0)
