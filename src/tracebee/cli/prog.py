"""``tracebee prog``: loaded programs."""

from __future__ import annotations

import sys

from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.engine.kernel.profiler import Metric
    from tracebee.kernel.map import Map
    from tracebee.kernel.program import Program

USAGE = """\
usage: tracebee prog [show|list] [PROG]
       tracebee prog dump xlated PROG [file PATH | opcodes | linum | visual]
       tracebee prog dump jited PROG [file PATH | opcodes | linum]
       tracebee prog load OBJ [PATH] [type SECTION] [map name NAME MAP] [pinmaps DIRECTORY] [autoattach]
                                 [with OBJ]... other object files to link with it
       tracebee prog loadall OBJ [DIRECTORY] [...]        without a place: load, say what, and let go
       tracebee prog pin PROG PATH
       tracebee prog attach PROG ATTACH_TYPE [MAP]
       tracebee prog detach PROG ATTACH_TYPE [MAP]
       tracebee prog run PROG [data_in PATH [data_out PATH [data_size_out N]]]
                              [ctx_in PATH [ctx_out PATH [ctx_size_out N]]] [repeat N]
                              [cpu N] [live_frames [batch_size N]]
       tracebee prog stats [PROG] [duration SECONDS]
       tracebee prog profile PROG [duration SECONDS] METRIC...     until Ctrl-C without a duration
       tracebee prog tracelog
  PROG := { id NUMBER | name NAME | tag TAG | pinned PATH }
  MAP := { id NUMBER | name NAME | pinned PATH }
  METRIC := { cycles | instructions | l1d_loads | llc_misses | itlb_misses | dtlb_misses |
              cpu_clock | page_faults | context_switches }  up to four
  ATTACH_TYPE := { sk_msg_verdict | sk_skb_verdict | sk_skb_stream_verdict | sk_skb_stream_parser |
                   flow_dissector }
  options: -j JSON, -p indented JSON, -f with the places where it is pinned, -d with the verifier's log"""

# Attach types that need no map: they attach to this process's network namespace.
_WITHOUT_MAP = ("flow_dissector",)
_LOAD_WORDS = ("type", "map", "pinmaps", "autoattach", "with")
_ATTACH_TYPES = (
    "sk_msg_verdict",
    "sk_skb_verdict",
    "sk_skb_stream_verdict",
    "sk_skb_stream_parser",
    *_WITHOUT_MAP,
)


def run(argv: list[str]) -> int:
    """The command ``tracebee prog``."""
    commands = {
        "show": _show,
        "list": _show,
        "dump": _dump,
        "load": _load,
        "loadall": _load_all,
        "pin": _pin,
        "attach": _attach,
        "detach": _detach,
        "run": _run,
        "stats": _stats,
        "profile": _profile,
        "tracelog": _tracelog,
    }
    return dispatch(argv, commands, USAGE)


def _show(words: Words) -> int:
    from tracebee.kernel import choose
    from tracebee.report.inspect.program import program_text
    from tracebee.report.inspect.survey import program_records

    how = words.choice(*choice.PROGRAM) if words else None
    words.end()
    records = program_records(choose.programs(*how) if how else None, bpffs=words.bpffs)
    return choice.show(words, records, program_text, one=how is not None)


def _dump(words: Words) -> int:
    kind = words.next("xlated or jited")
    if kind not in ("xlated", "jited"):
        raise UsageError(f"expected xlated or jited, not '{kind}'", hint=words.hint)
    with choice.program(words) as program:
        path = words.next("a path") if words.accept("file") else ""
        flags = set()
        while word := words.accept("opcodes", "linum", "visual"):
            flags.add(word)
        words.end()
        if path:
            details = program.details()
            with open(path, "wb") as file:
                file.write(details.xlated if kind == "xlated" else details.jited)
            return choice.done(words)
        return (
            _dump_translated(words, program, flags)
            if kind == "xlated"
            else _dump_machine(words, program, flags)
        )


def _dump_translated(words: Words, program: Program, flags: set[str]) -> int:
    from tracebee.report.inspect import code

    rows = code.translated(program)
    opcodes, lines = "opcodes" in flags, "linum" in flags
    if "visual" in flags:
        from tracebee.isa.dot import code_dot

        heads = {row.slot for row in rows if row.proto is not None}
        print(code_dot(program.name, [r.insn for r in rows], [r.text for r in rows], heads), end="")
    elif words.json:
        words.print_json(code.translated_records(rows, opcodes=opcodes, lines=lines))
    else:
        print(code.translated_text(rows, opcodes=opcodes, lines=lines))
    return 0


def _dump_machine(words: Words, program: Program, flags: set[str]) -> int:
    from tracebee.report.inspect import code

    functions = code.machine_code(program)
    if words.json:
        records = code.machine_records(functions, opcodes="opcodes" in flags, lines="linum" in flags)
        words.print_json(records)
    else:
        print(code.machine_text(functions, opcodes="opcodes" in flags, lines="linum" in flags))
    return 0


def _pin(words: Words) -> int:
    with choice.program(words) as program:
        path = choice.pin_path(words)
        words.end()
        choice.pin(words, program, path)
    return choice.done(words)


def _attach(words: Words) -> int:
    return _change_attachment(words, attach=True)


def _detach(words: Words) -> int:
    return _change_attachment(words, attach=False)


def _change_attachment(words: Words, *, attach: bool) -> int:
    from tracebee.uapi import ATTACH_TYPES

    with choice.program(words) as program:
        name = words.next("an attach type")
        if name not in _ATTACH_TYPES:
            raise UsageError(f"programs cannot be attached by '{name}' here", hint=words.hint)
        table = None if name in _WITHOUT_MAP else choice.one_map(words)
        words.end()
        target = 0 if table is None else table.fd
        try:
            if attach:
                program.attach(target, ATTACH_TYPES[name])
            else:
                program.detach_from(target, ATTACH_TYPES[name])
        finally:
            if table is not None:
                table.close()
    return choice.done(words)


def _run(words: Words) -> int:
    from tracebee.cli.test_run import test_run

    with choice.program(words) as program:
        return test_run(words, program.test_run, in_kernel=True)


def _stats(words: Words) -> int:
    from tracebee.kernel import choose
    from tracebee.report.inspect.output import json_text
    from tracebee.report.inspect.statistics import measure, statistics_text

    how = words.choice(*choice.PROGRAM) if words and words.peek() != "duration" else None
    seconds = words.number("a number of seconds") if words.accept("duration") else 1
    words.end()
    records = measure(choose.programs(*how) if how else None, seconds)
    print(json_text(records, pretty=words.pretty) if words.json else statistics_text(records))
    return 0


def _profile(words: Words) -> int:
    import time

    from tracebee.engine.kernel.profiler import MAX_METRICS, METRICS, Profiler
    from tracebee.report.inspect.output import json_text
    from tracebee.report.inspect.profile import profile_records, profile_text

    with choice.program(words) as program:
        seconds = words.number("a number of seconds") if words.accept("duration") else None
        chosen: set[Metric] = set()
        while not chosen or words:
            word = words.next("a metric")
            metric = next((m for m in METRICS if m.name.startswith(word)), None)
            if metric is None:
                raise UsageError(f"'{word}' is no metric", hint=words.hint)
            chosen.add(metric)
        if len(chosen) > MAX_METRICS:
            raise UsageError(f"{len(chosen)} metrics are too many: at most {MAX_METRICS} are counted at once")
        with Profiler(program, [metric for metric in METRICS if metric in chosen]) as profiler:
            try:
                time.sleep(1 << 31 if seconds is None else seconds)
            except KeyboardInterrupt:
                pass  # that is how it ends
            found = profiler.read()
    print(json_text(profile_records(*found), pretty=words.pretty) if words.json else profile_text(*found))
    return 0


def _tracelog(words: Words) -> int:
    import os

    from tracebee.kernel.fd import Fd
    from tracebee.kernel.tracefs import trace_pipe

    words.end()
    with Fd(trace_pipe()) as pipe:
        while data := os.read(pipe.fd, 1 << 16):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    return 0


def _load(words: Words) -> int:
    return _load_object(words, everything=False)


def _load_all(words: Words) -> int:
    return _load_object(words, everything=True)


def _load_object(words: Words, *, everything: bool) -> int:
    from tracebee.engine.kernel.object_files import LoadOptions, load_and_pin

    path = words.next("an object file")
    # Without a place nothing is kept: the answer is whether this kernel takes the file.
    place = "" if not words or words.peek() in _LOAD_WORDS else choice.pin_path(words)
    section, pin_maps, attach = "", "", False
    others: list[str] = []
    reuse: dict[str | int, Map] = {}
    try:
        while words:
            word = words.next("an option")
            if word == "type":
                section = words.next("a section's name")
            elif word == "pinmaps":
                pin_maps = words.next("a directory")
            elif word == "with":
                others.append(words.next("an object file"))
            elif word == "autoattach":
                attach = True
            elif word == "map":
                number = words.accept("name", "idx") == "idx"
                key = words.number("a map's number") if number else words.next("a map's name")
                reuse[key] = choice.one_map(words)
            else:
                raise words.unexpected(word)
        options = LoadOptions(section, pin_maps, attach, words.debug, tuple(others))
        for name in filter(None, (place, pin_maps)):
            choice.mount_for(words, name)
        loaded = load_and_pin(path, place, everything=everything, reuse=reuse, options=options)
    finally:
        for table in reuse.values():
            table.close()
    for warning in loaded.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    for log in loaded.logs:
        print(log, file=sys.stderr, end="")
    if place:
        return choice.done(words)
    if words.json:
        words.print_json(loaded.programs)
    else:
        for name in loaded.programs:
            print(name)
    return 0
