from collections.abc import Iterator

import pytest
from verifier_cases import CASES, FILTER, Case
from verifier_programs import ARRAY, MAPS, RING

from tracebee import uapi
from tracebee.errors import VerifierError
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.isa.insn import Insn
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.obj.model import Function, LineInfo, Object, ProgramDef
from tracebee.vm.verifier import Verdict, verify, verify_insns

NAMES = {"array": ARRAY, "ring": RING}
IDS = [case.name for case in CASES]


def verdict(case: Case, **options: bool) -> Verdict:
    return verify_insns(assemble(case.text, NAMES), case.type, maps=MAPS, limit=20_000, **options)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_rule(case: Case) -> None:
    found = verdict(case)
    assert found.accepted == (not case.message), found.explain()
    assert found.message.startswith(case.message), found.message


@pytest.fixture(scope="module")
def maps() -> Iterator[dict[int, Map]]:
    made = {number: Map.create(definition) for number, definition in MAPS.items()}
    yield made
    for m in made.values():
        m.close()


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("case", [c for c in CASES if c.kernel], ids=[c.name for c in CASES if c.kernel])
def test_the_kernel_agrees(case: Case, maps: dict[int, Map]) -> None:
    insns = [
        i._replace(imm=maps[i.imm].fd) if i.is_wide and i.src == 1 else i for i in assemble(case.text, NAMES)
    ]
    log = ""
    try:
        Program.load(encode(insns), case.type).close()
    except VerifierError as error:
        log = error.log
    assert bool(log) == bool(case.message), log


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r0 = r1\nexit", "R0 leaks addr as return value"),
        ("r0 = 0\nagain:\nr0 += 1\nif r0 < 10 goto again\nexit", "back-edge from instruction 2 to 1"),
        ("if r1 > 5 goto out\nout:\nr0 = 0\nexit", "R1 pointer comparison prohibited"),
        ("r0 = *(u64 *)(r10 -8)\nexit", "invalid read from stack off -8"),
        ("r2 = r10\nr2 -= r1\nr0 = 0\nexit", "R2 pointer -= pointer prohibited"),
        ("r0 = 0\n*(u64 *)(r10 -8) = r1\n*(u8 *)(r10 -8) = r0\nexit", "attempt to corrupt spilled pointer"),
    ],
)
def test_without_privileges(text: str, message: str) -> None:
    case = Case("unprivileged", FILTER, text)
    found = verdict(case, privileged=False)
    assert found.message.startswith(message), found.explain()


def test_limits() -> None:
    many = [Insn(0xB7, 0, imm=1)] * 4096 + [Insn(0x95)]
    assert not verify_insns(many, FILTER, privileged=False).accepted
    assert verify_insns(many, FILTER).accepted
    endless = assemble("r0 = 0\nagain:\nr0 += 1\nif r0 != 0 goto again\nexit")
    found = verify_insns(endless, FILTER, limit=5000)
    assert found.message == "BPF program is too large. Processed 5001 insn"


def test_a_refusal_names_line_register_and_path() -> None:
    insns = assemble(
        "*(u32 *)(r10 -4) = 9\nr1 = map[array]\nr2 = r10\nr2 += -4\ncall map_lookup_elem\n"
        "if r0 == 0 goto out\nr0 = *(u64 *)(r0 +64)\nout:\nr0 = 0\nexit",
        {"array": 1},
    )
    from tracebee.obj.model import Reloc

    wide = next(i for i, insn in enumerate(insns) if insn.is_wide)
    bare = tuple(i._replace(src=0, imm=0) if i.is_wide else i for i in insns)
    function = Function(
        "main",
        bare,
        (Reloc(wide, "map", "array"),),
        (LineInfo(0, "t.bt", "BEGIN { $v = @a; }", 1, 9), LineInfo(6, "t.bt", "  print($v->far);", 2, 9)),
    )
    obj = Object(
        "t", "GPL", (MAPS[ARRAY],), (ProgramDef(function, "socket", uapi.BPF_PROG_TYPE_SOCKET_FILTER),)
    )
    found = verify(obj, "main")
    assert found.line is not None
    assert (found.line.line, found.slot, found.register) == (2, 7, 0)
    text = found.explain()
    assert "t.bt:2:9: error: invalid access to map value, size=48 off=64 size=8" in text
    assert "hint: bytes 64 to 71 are outside of its 48" in text
    assert "r0 is a value of 'array'" in text
    assert "if r0 == 0x0 goto pc+1: not taken" in text


def test_iterators() -> None:
    text = """
    r1 = r10
    r1 += -8
    r2 = 0
    r3 = 100
    call kfunc new
    again:
    r1 = r10
    r1 += -8
    call kfunc next
    if r0 == 0 goto done
    r0 = *(u32 *)(r0 +0)
    goto again
    done:
    r1 = r10
    r1 += -8
    call kfunc destroy
    r0 = 0
    exit
    """
    from tracebee.isa.asm import assemble_functions

    code = assemble_functions(text)[0]
    names = {symbol.at: f"bpf_iter_num_{symbol.name}" for symbol in code.symbols if symbol.kind == "kfunc"}
    insns = [i._replace(src=2) if at in names else i for at, i in enumerate(code.insns)]
    assert verify_insns(insns, FILTER, kfuncs=names).accepted
    kept = insns[:-5] + insns[-2:]
    found = verify_insns(kept, FILTER, kfuncs=names)
    assert "Unreleased reference" in found.message
