"""The verifier's verdicts against the running kernel's, on random programs.

``TRACEBEE_VERIFIER_PROGRAMS=5000 pytest tests/vm/verifier/test_verifier_kernel.py`` compares more.
"""

import os
from collections.abc import Iterator

import pytest
from verifier_programs import MAPS, Maker

from tracebee.errors import VerifierError
from tracebee.isa.codec import encode
from tracebee.isa.disasm import format_insn
from tracebee.isa.insn import Insn
from tracebee.kernel.cpus import possible
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.vm.verifier import verify_insns

COUNT = int(os.environ.get("TRACEBEE_VERIFIER_PROGRAMS", "500"))
# Programs that the kernel accepts after looking at more instructions than a test should take.
LIMIT = 20_000


@pytest.fixture(scope="module")
def maps() -> Iterator[dict[int, Map]]:
    made = {number: Map.create(definition) for number, definition in MAPS.items()}
    yield made
    for m in made.values():
        m.close()


def kernel_refusal(insns: list[Insn], program_type: int, maps: dict[int, Map]) -> str:
    """What the kernel says against a program; empty when it loads."""
    code = [i._replace(imm=maps[i.imm].fd) if i.is_wide and i.src == 1 else i for i in insns]
    try:
        Program.load(encode(code), program_type).close()
    except VerifierError as error:
        return error.log
    return ""


def listing(insns: list[Insn]) -> str:
    slot, lines = 0, []
    for insn in insns:
        lines.append(f"{slot}: {format_insn(insn)}")
        slot += insn.slots
    return "\n".join(lines)


@pytest.mark.needs("bpf")
def test_verdicts_equal_the_kernels(maps: dict[int, Map]) -> None:
    different = []
    accepted = 0
    for seed in range(COUNT):
        maker = Maker(seed)
        insns = maker.make()
        log = kernel_refusal(insns, maker.type, maps)
        verdict = verify_insns(insns, maker.type, maps=MAPS, limit=LIMIT, cpus=len(possible()))
        accepted += verdict.accepted
        if verdict.accepted and log:
            pytest.fail(f"seed {seed}: accepted what the kernel refuses:\n{listing(insns)}\n{log[-2000:]}")
        if not verdict.accepted and not log:
            different.append(f"seed {seed}: {verdict.explain()}")
    assert len(different) <= COUNT * 0.02, "\n".join(different)
    # Both verdicts must occur often for the comparison to mean anything.
    assert COUNT * 0.3 < accepted < COUNT * 0.8
