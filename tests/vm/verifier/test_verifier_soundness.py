"""Nothing the verifier accepts misbehaves: random programs that it takes run in the checked VM."""

import random

from verifier_programs import MAPS, Maker

from tracebee import uapi
from tracebee.isa.insn import Insn
from tracebee.obj.model import Function, Object, ProgramDef, Reloc
from tracebee.vm.session import Vm
from tracebee.vm.verifier import verify

SIZES = {
    uapi.BPF_PROG_TYPE_SOCKET_FILTER: 192,
    uapi.BPF_PROG_TYPE_SCHED_CLS: 192,
    uapi.BPF_PROG_TYPE_KPROBE: 168,
    uapi.BPF_PROG_TYPE_TRACEPOINT: 64,
    uapi.BPF_PROG_TYPE_RAW_TRACEPOINT: 96,
    uapi.BPF_PROG_TYPE_PERF_EVENT: 184,
}


def as_object(insns: list[Insn], program_type: int) -> Object:
    relocs = tuple(
        Reloc(at, "map", MAPS[insn.imm].name)
        for at, insn in enumerate(insns)
        if insn.is_wide and insn.src == 1
    )
    bare = tuple(i._replace(src=0, imm=0) if i.is_wide and i.src == 1 else i for i in insns)
    function = Function("main", bare, relocs)
    return Object("random", "GPL", tuple(MAPS.values()), (ProgramDef(function, "test", program_type),))


def test_accepted_programs_run_without_a_fault() -> None:
    ran = 0
    for seed in range(400):
        maker = Maker(seed)
        insns = maker.make()
        if maker.type not in SIZES:
            continue
        obj = as_object(insns, maker.type)
        if not verify(obj, "main", uninitialised_stack=False, limit=20_000).accepted:
            continue
        rng = random.Random(seed)
        vm = Vm(obj)
        for _ in range(3):
            data = rng.choice((rng.randbytes(SIZES[maker.type]), bytes(SIZES[maker.type])))
            vm.run("main", context=data)  # raises ProgramFaultError
        ran += 1
    assert ran > 50
