"""Scripts on kernels that take less: sizes are cut to what they have."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from tracebee.api.compiling import compile_text
from tracebee.engine.kernel.engine import KernelEngine
from tracebee.errors import KernelError
from tracebee.kernel.map import Map
from tracebee.lang.script import STACKS_MORE, stacks_name
from tracebee.obj.model import MapDef
from tracebee.source import Source
from tracebee.stacks.table import addresses

pytestmark = pytest.mark.needs("bpf")
SCRIPT = (
    "tracepoint:syscalls:sys_enter_getppid /pid == $1/ { @[kstack] = count() } "
    "tracepoint:syscalls:sys_exit_getppid /pid == $1/ { @[kstack] = count() }"
)


@pytest.mark.parametrize("longest", [512, 4096])
def test_stacks_are_told_apart_with_short_keys_too(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    create = Map.create

    def of_an_old_kernel(definition: MapDef, **more: Any) -> Map:
        if definition.key_size > longest:
            raise KernelError("bpf(BPF_MAP_CREATE)", errno.E2BIG, "too big")
        return create(definition, **more)

    monkeypatch.setattr(Map, "create", of_an_old_kernel)
    script = compile_text(Source("stdin", SCRIPT), parameters=[str(os.getpid())])
    one_bucket = tuple(
        m._replace(max_entries=1) if m.name == stacks_name(127) else m for m in script.object.maps
    )
    engine = KernelEngine()
    engine.load(script._replace(object=script.object._replace(maps=one_bucket)))
    try:
        assert engine.loaded.maps[STACKS_MORE].key_size == min(longest, 8 * 127)
        engine.attach(lambda _: None)
        os.getppid()
        more = list(engine.stacks.more())
        assert more, "both stacks have the one bucket"
        assert all(frames[0] > 1 << 63 for frames in (addresses(stack) for stack, _ in more))
        assert len(list(engine.maps["AT"].items())) == 2
    finally:
        engine.close()
