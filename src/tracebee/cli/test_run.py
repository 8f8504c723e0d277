"""Test runs by command: ``prog run`` in the kernel, ``vm test`` in user space, in the same words."""

from __future__ import annotations

import sys

from tracebee import uapi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.cli.words import Words
    from tracebee.kernel.program import TestRun

# Room for the output where its size is not given; a packet may grow.
_ROOM = 32 << 10
_PATHS = ("data_in", "data_out", "ctx_in", "ctx_out")
_NUMBERS = ("data_size_out", "ctx_size_out", "repeat")
_KERNEL_NUMBERS = ("cpu", "batch_size")


def test_run(words: Words, run: Callable[..., TestRun], *, in_kernel: bool) -> int:
    """Read the input that the words name, run, and print or write the output.

    :param run: ``Program.test_run`` of the kernel, or its counterpart.
    :param in_kernel: whether it takes what concerns the machine: ``cpu``, ``batch_size``, ``live_frames``.
    :raises UsageError: a word is wrong; OSError: a file is.
    """
    paths: dict[str, str] = {}
    numbers: dict[str, int] = {}
    live = False
    while words:
        word = words.next("an option")
        if word in _PATHS:
            paths[word] = words.next("a path")
        elif word in _NUMBERS or (in_kernel and word in _KERNEL_NUMBERS):
            numbers[word] = words.number(f"a number for {word}")
        elif word == "live_frames" and in_kernel:
            live = True
        else:
            raise words.unexpected(word)
    data, ctx = _read(paths.get("data_in")), _read(paths.get("ctx_in"))
    more = {name: numbers[name] for name in _KERNEL_NUMBERS if name in numbers}
    flags = uapi.BPF_F_TEST_XDP_LIVE_FRAMES if live else 0
    flags |= uapi.BPF_F_TEST_RUN_ON_CPU if "cpu" in more else 0
    if flags:
        more["flags"] = flags
    result = run(
        data=data,
        ctx=ctx,
        data_out=numbers.get("data_size_out", max(len(data), _ROOM) if data and not live else 0),
        ctx_out=numbers.get("ctx_size_out", len(ctx)),
        repeat=numbers.get("repeat", 1),
        **more,
    )
    return _show(words, paths, result, repeated=numbers.get("repeat", 1) > 1)


def _show(words: Words, paths: dict[str, str], result: TestRun, *, repeated: bool) -> int:
    from tracebee.report.inspect.output import hex_dump

    record: dict[str, object] = {}
    for name, output in (("data_out", result.data), ("ctx_out", result.ctx)):
        if paths.get(name, "-") != "-":
            with open(paths[name], "wb") as file:
                file.write(output)
        elif name in paths:
            record[name] = list(output)
            if not words.json and output:
                print(hex_dump(output))
    record.update(retval=result.retval, duration=result.duration)
    if words.json:
        words.print_json(record)
    else:
        average = " (average)" if repeated else ""
        print(f"Return value: {result.retval}, duration{average}: {result.duration}ns")
    return 0


def _read(path: str | None) -> bytes:
    if path is None:
        return b""
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()
