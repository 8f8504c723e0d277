"""Tracing from the command line: a script from a file, from ``-e`` or by a tool's name, to its output."""

from __future__ import annotations

import os
import sys

from tracebee import __version__
from tracebee.cli.arguments import Arguments, parse, usage
from tracebee.errors import UsageError, VerifierError
from tracebee.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, BinaryIO

    from tracebee.engine.api import Engine
    from tracebee.engine.command import Command
    from tracebee.errors import Diagnostic
    from tracebee.ir import Function
    from tracebee.lang.script import Script


# What --no-feature takes: bpftrace's names. Sessions are never used.
_OPTIONAL_FEATURES = ("kprobe_multi", "kprobe_session", "uprobe_multi")


def trace(argv: Sequence[str]) -> int:
    """Do what a command line without a subcommand says; returns the exit code."""
    arguments = parse(argv)
    if arguments.flag("version"):
        print(f"tracebee v{__version__}")
        return 0
    if arguments.flag("help") or not (argv or arguments.values):
        print(usage())
        return 0 if arguments.flag("help") else 1
    if arguments.flag("info"):
        from tracebee.cli.feature import run as feature

        return feature([])
    if arguments.text("btf"):
        from tracebee.btf.opening import open_file, use_kernel

        use_kernel(open_file(arguments.text("btf") or ""))
    if arguments.flag("list"):
        from tracebee.cli.listing import list_probes

        return list_probes(arguments)
    if arguments.text("pin") is not None:
        from tracebee.cli.leave import leave

        return leave(arguments)
    return _Tracing(arguments).run()


class _Tracing:
    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.quiet = arguments.flag("quiet")
        self.built = built_script(arguments.script)
        if self.built is not None:
            self.source = self.built.source
        else:
            self.source = read_source(arguments)
        self.pid = process_id(arguments.text("pid"))
        from tracebee.engine.select import choose

        wanted = arguments.text("engine") or "auto"
        self.engine = choose(wanted)
        if wanted == "auto" and self.engine == "user" and not self.quiet:
            print("no right to use bpf(2): tracing with the user engine", file=sys.stderr)
        if self.pid is not None and arguments.text("command") is not None:
            raise UsageError("-p and -c exclude each other: each names the process to trace")

    def run(self) -> int:
        command = self._command()
        try:
            return self._run(command)
        finally:
            if command is not None:
                command.close()

    def _command(self) -> Command | None:
        text = self.arguments.text("command")
        if text is None:
            return None
        import shlex

        from tracebee.engine.command import Command

        return Command(shlex.split(text))

    def _run(self, command: Command | None) -> int:
        stages = self.arguments.text("dump")
        if stages is not None:
            from tracebee.cli.dump import dump

            return dump(self.source, lambda after_pass: self._compile(command, after_pass), stages)
        script = self._compile(command)
        from tracebee.engine.select import make_engine

        pid = self.pid if command is None else command.pid
        engine = make_engine(
            self.engine,
            pid=pid,
            held=command is not None,
            log_level=1 if self.arguments.flag("verbose") else 0,
        )
        try:
            engine.load(script)
            if self.arguments.flag("dry_run"):
                engine.attach(lambda _: None)
                return 0
            return self._report(engine, script, command)
        except VerifierError as error:
            if self.arguments.flag("verbose"):
                print(error.log, file=sys.stderr)
            raise
        finally:
            engine.close()

    def _compile(
        self, command: Command | None, after_pass: Callable[[str, Function], None] | None = None
    ) -> Script:
        if self.built is not None:
            from tracebee.api.built import for_this_machine

            return for_this_machine(
                self.built,
                command_pid=None if command is None else command.pid,
                user=self.engine == "user",
                without=features_to_do_without(self.arguments),
            )
        return compile_source(
            self.arguments,
            self.source,
            pid=self.pid,
            command_pid=command.pid if command is not None else None,
            command_path=command.path if command is not None else None,
            user=self.engine == "user",
            after_pass=after_pass,
        )

    def _report(self, engine: Engine, script: Script, command: Command | None) -> int:
        from tracebee.api.names import LazyNames
        from tracebee.engine.run import is_once, run
        from tracebee.report.reporter import Reporter

        names = LazyNames(demangled=bool(script.config.get("cpp_demangle", True)))
        out = self._output()
        form = _choice(self.arguments, "format", ("text", "json", "folded", "svg"))
        reporter: Reporter
        if form in ("folded", "svg"):
            from tracebee.report.stacks import StackReporter

            reporter = StackReporter(
                script,
                engine.maps,
                engine.stacks,
                names,
                out=out,
                err=sys.stderr.buffer,
                graph=form == "svg",
            )
        else:
            reporter = Reporter(
                script,
                engine.maps,
                engine.stacks,
                names,
                out=out,
                err=sys.stderr.buffer,
                json=form == "json",
                buffering=_choice(self.arguments, "buffering", ("line", "full", "none")),
                quiet=self.quiet,
            )
        try:
            look = names.watcher(script)
            return run(engine, reporter, command=command, pid=self.pid, look=look, once=is_once(script))
        finally:
            reporter.flush()
            if out is not sys.stdout.buffer:
                out.close()

    def _output(self) -> BinaryIO:
        path = self.arguments.text("output")
        return sys.stdout.buffer if path is None else open(path, "wb")


def compile_source(arguments: Arguments, source: Source, **more: Any) -> Script:
    """Compile a script with what the command line says of it; warnings go to standard error.

    :param more: parameters of ``api.compiling.compile_text`` that depend on the command.
    :raises SourceError: the script is wrong.
    """
    from tracebee.api.compiling import compile_text

    def warn(finding: Diagnostic | str) -> None:
        if isinstance(finding, str):
            print(f"WARNING: {finding}", file=sys.stderr)
        elif finding.severity == "warning":
            print(finding.render(source), file=sys.stderr)

    return compile_text(
        source,
        parameters=arguments.parameters,
        named=arguments.named,
        unsafe=arguments.flag("unsafe"),
        runtime_checks=2 if arguments.flag("all_checks") else min(2, len(arguments.many("checks"))),
        warn=None if arguments.flag("no_warnings") else warn,
        headers=arguments.many("include"),
        header_directories=arguments.many("include_dir"),
        without=features_to_do_without(arguments),
        **more,
    )


def features_to_do_without(arguments: Arguments) -> list[str]:
    """The names of ``--no-feature``, each option with one or several.

    :raises UsageError: there is no such feature.
    """
    names = [name.strip() for text in arguments.many("no_feature") for name in text.split(",")]
    for name in names:
        if name not in _OPTIONAL_FEATURES:
            raise UsageError(
                f"--no-feature: '{name}' is not a feature that scripts can do without",
                hint=f"it can be {' or '.join(_OPTIONAL_FEATURES)}",
            )
    return names


def read_source(arguments: Arguments) -> Source:
    """The script a command line names: ``-e``, a file, ``-`` for standard input, or a shipped tool.

    :raises UsageError: there is none.
    """
    program = arguments.text("program")
    if program is not None:
        return Source("stdin", program)
    name = arguments.script
    if name is None:
        raise UsageError("no script given", hint="name a file or a tool, or use -e 'PROGRAM'")
    if name == "-":
        return Source("stdin", sys.stdin.read())
    if os.path.isfile(name):
        with open(name, encoding="utf-8", errors="surrogateescape") as file:
            return Source(name, file.read())
    if "/" not in name:
        from tracebee.tools import find_tool

        return find_tool(name)
    raise UsageError(f"there is no script '{name}'")


def built_script(path: str | None) -> Script | None:
    """The script inside an object file that ``tracebee build`` wrote; None when the file is no ELF file.

    :raises DecodeError: it is one, but not of a script.
    """
    if path is None or not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
    from tracebee.lang.portable import from_object
    from tracebee.obj.elf_reader import read_object

    return from_object(read_object(path))


def process_id(text: str | None) -> int | None:
    """The process of ``-p``.

    :raises UsageError: there is none such.
    """
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 1 << 22:
        raise UsageError(f"'{text}' is not a process id")
    if not os.path.exists(f"/proc/{text}"):
        raise UsageError(f"there is no process {text}")
    return int(text)


def _choice(arguments: Arguments, key: str, allowed: tuple[str, ...]) -> str:
    value = arguments.text(key) or allowed[0]
    if value not in allowed:
        raise UsageError(f"'{value}' is not one of {', '.join(allowed)}")
    return value
