"""From a script's text to a compiled script for this machine: what the command line and the library share."""

from __future__ import annotations

import os
import time

from tracebee.api import this_machine
from tracebee.lang.compile import compile_script
from tracebee.lang.config import SETTINGS, from_environment
from tracebee.lang.frontend import load
from tracebee.lang.options import Options
from tracebee.probes.machine import Machine
from tracebee.probes.provider import Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
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
    runtime_checks: int = 0,
    lasting: bool = False,
    portable: bool = False,
    user: bool = False,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    warn: Callable[[Diagnostic | str], None] | None = None,
    cpu_version: int | None = None,
    after_pass: Callable[[str, Function], None] | None = None,
    headers: Sequence[str] = (),
    header_directories: Sequence[str] = (),
    without: Collection[str] = (),
) -> Script:
    """Compile a script for the running kernel.

    :param pid: the process it is to trace (``-p``).
    :param command_pid, command_path: the held process of ``-c`` and its program.
    :param runtime_checks: 1 to have failed helper calls reported (``-k``), 2 for reads too (``-kk``).
    :param portable: for ``tracebee build``: what is of this machine alone stays out of the code.
    :param lasting: it is to run without a process behind it (``--pin``).
    :param user: for the user engine: only what needs no privilege is looked at.
    :param config: settings that come before the script's own config block.
    :param environment: where ``BPFTRACE_...`` settings are read from; default: this process's.
    :param warn: called with each warning: findings about a place of the script, or plain text.
    :param cpu_version: 3 for code that older kernels take too; default: what the running kernel has.
    :param after_pass: called after each pass over the IR, to dump or check it.
    :param headers: C headers to read before it (``--include``), :param header_directories: where headers are
        looked for (``-I``).
    :param without: kernel features to do without (``--no-feature``), by their names in ``probes.machine``.
    :raises SourceError: the script is wrong, with every error found.
    """
    machine = Machine(
        pid if pid is not None else command_pid,
        command=command_path,
        user=user,
        portable=portable,
        without=without,
    )
    loaded = load(
        source,
        params=parameters,
        lookup=machine.records.named,
        headers=headers,
        header_directories=header_directories,
    )

    def tell(finding: Diagnostic) -> None:
        assert warn is not None
        finding.source = loaded.source
        warn(finding)

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
            runtime_checks=runtime_checks,
            lasting=lasting,
            portable=portable,
            cpid=command_pid,
            ncpus=this_machine.possible_cpus(),
            pid_namespace=this_machine.pid_namespace(),
            start=0 if portable else time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            symbol=this_machine.kernel_address,
            user_symbol=this_machine.user_symbol,
            cpu_version=_cpu_version if cpu_version is None else cpu_version,
            warn=None if warn is None else tell,
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
