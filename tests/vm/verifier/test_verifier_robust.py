"""Whatever the code is, the verifier gives a verdict."""

import random

from verifier_programs import MAPS, TYPES, Maker

from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import OPCODES
from tracebee.vm.verifier import verify_insns

KNOWN = sorted({row.code for row in OPCODES})


def noise(rng: random.Random) -> Insn:
    wide = rng.random() < 0.05
    return Insn(
        0x18 if wide else rng.choice(KNOWN) if rng.random() < 0.9 else rng.randrange(256),
        rng.randrange(12),
        rng.randrange(12),
        rng.choice((0, 0, 1, -1, 2, 8, -8, 16, 32, -512, 300)),
        rng.choice(
            (0, 1, 2, -1, 101, 102, 103, 6, 130, 0xF1, 0xE1, 0x100, 0x110, 181, 164, rng.randrange(220))
        ),
    )


def test_noise() -> None:
    for seed in range(3000):
        rng = random.Random(seed)
        insns = [noise(rng) for _ in range(rng.randrange(1, 12))] + [Insn(0xB7), Insn(0x95)]
        verdict = verify_insns(insns, rng.choice(TYPES), maps=MAPS, limit=2000, privileged=rng.random() < 0.7)
        assert verdict.explain()


def test_a_loop_that_overwrites_the_frame_pointer_ends() -> None:
    insns = [Insn(0xB7, 10, imm=1), Insn(0x15, 1, off=-2), Insn(0xB7), Insn(0x95)]
    assert not verify_insns(insns, TYPES[0], limit=2000).accepted


def test_programs_with_noise_in_them() -> None:
    for seed in range(1000):
        rng = random.Random(seed)
        maker = Maker(seed)
        insns = maker.make()
        for _ in range(rng.randrange(1, 3)):
            insns[rng.randrange(len(insns))] = noise(rng)
        verdict = verify_insns(insns, maker.type, maps=MAPS, limit=2000, privileged=rng.random() < 0.7)
        assert verdict.explain()
