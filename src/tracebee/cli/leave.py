"""``--pin NAME``: leave a script running in the kernel, with no process behind it."""

from __future__ import annotations

from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.cli.arguments import Arguments


# What is about output and when it ends: nobody is there to print.
_OF_READERS = {"format": "-f", "output": "-o", "buffering": "-B", "dry_run": "--dry-run"}


def leave(arguments: Arguments) -> int:
    """Compile, load, attach and pin the script that the arguments name; say how to get at it."""
    from tracebee.cli.trace import (
        built_script,
        compile_source,
        features_to_do_without,
        process_id,
        read_source,
    )
    from tracebee.engine.kernel.pinned import LastingEngine
    from tracebee.engine.run import is_once

    name = arguments.text("pin") or ""
    if arguments.text("command") is not None or arguments.text("engine") == "user":
        raise UsageError(
            "a pinned script runs in the kernel, without a process", hint="leave -c or --engine out"
        )
    for key, option in _OF_READERS.items():
        if key in arguments.values:
            raise UsageError(
                f"{option} is of no use with --pin", hint="'tracebee attach NAME' prints; -j as JSON"
            )
    pid = process_id(arguments.text("pid"))
    script = built_script(arguments.script)
    shown = arguments.script or "-e"
    if script is None:
        script = compile_source(arguments, read_source(arguments), pid=pid, lasting=True)
    else:
        from tracebee.api.built import for_this_machine

        script = for_this_machine(script, without=features_to_do_without(arguments))
    if is_once(script):
        raise UsageError("the script ends by itself: there is nothing to leave running")
    engine = LastingEngine(pid=pid)
    try:
        engine.load(script)
        engine.leave(script, name, shown)
    finally:
        engine.close()
    if not arguments.flag("quiet"):
        probes = f"{engine.probes} probe{'' if engine.probes == 1 else 's'}"
        print(f"{name}: {probes}; 'tracebee attach {name}' shows it, 'tracebee detach {name}' ends it")
    return 0
