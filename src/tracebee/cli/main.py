"""The command ``tracebee``: which of its faces is meant, and errors as one clear line each."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Subcommand: the module under tracebee.cli whose run(argv) does it, imported only then.
COMMANDS = {
    "run": "run",
    "prog": "prog",
    "map": "map",
    "link": "link",
    "cgroup": "cgroup",
    "net": "net",
    "struct_ops": "struct_ops",
    "iter": "iter",
    "batch": "batch",
    "btf": "btf",
    "gen": "gen",
    "perf": "perf",
    "pin": "pin",
    "feature": "feature",
    "vm": "vm",
    "build": "build",
    "attach": "attach",
    "detach": "detach",
    "list": "list",
}


# bpftool's options, which may also stand before a subcommand.
_LETTERS = frozenset("jpfdnm")
_SWITCHES = frozenset(("--json", "--pretty", "--bpffs", "--debug", "--nomount", "--mapcompat"))


def _is_switch(word: str) -> bool:
    return word in _SWITCHES or (len(word) > 1 and word[0] == "-" and _LETTERS.issuperset(word[1:]))


def main(argv: Sequence[str]) -> int:
    """Run the command with these arguments (without its own name); returns the exit code.

    :raises TracebeeError: whatever went wrong, for ``entry`` to print.
    """
    if list(argv) in (["help"], ["version"]):
        argv = [f"--{argv[0]}"]
    first = next((at for at, word in enumerate(argv) if not _is_switch(word)), 0)
    if argv and argv[first] in COMMANDS:
        import importlib

        module = importlib.import_module(f"tracebee.cli.{COMMANDS[argv[first]]}")
        code: int = module.run([*argv[first + 1 :], *argv[:first]])
        return code
    from tracebee.cli.trace import trace

    return trace(argv)


def entry() -> None:
    """The console script: exits with the code, never with a traceback (unless TRACEBEE_DEBUG is set)."""
    # Starting makes many objects that stay: looking through them for garbage again and again is a
    # tenth of the start.
    gc.set_threshold(200_000)
    code = guarded(sys.argv[1:])
    if not (_EXIT_WORK & sys.modules.keys() or sys.getprofile()) and _flushed():
        # What remains is to free the memory one object at a time: a tenth of a short run.
        os._exit(code)
    sys.exit(code)


# Modules whose users want an orderly exit: functions to call , threads to wait for.
_EXIT_WORK = frozenset({"atexit", "threading"})


def _flushed() -> bool:
    """Whether all output could be written; if not, the interpreter's own exit says why."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return False
    return True


def guarded(argv: Sequence[str]) -> int:
    """As ``main``, with every error printed on stderr and turned into exit code 1."""
    from tracebee.errors import TracebeeError

    debug = bool(os.environ.get("TRACEBEE_DEBUG"))
    try:
        return main(argv)
    except TracebeeError as error:
        if debug:
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who read our output is gone: nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        if debug:
            raise
        return _fail(
            f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        )
    except Exception as error:
        if debug:
            raise
        hint = "this is a defect of tracebee; set TRACEBEE_DEBUG=1 to see where"
        return _fail(f"{type(error).__name__}: {error}\n  hint: {hint}")


def _fail(text: str) -> int:
    sys.stdout.flush()
    # A finding about a script says "error:" itself, behind its place.
    prefix = "" if ": error: " in text.partition("\n")[0] else "ERROR: "
    print(prefix + text, file=sys.stderr)
    return 1
