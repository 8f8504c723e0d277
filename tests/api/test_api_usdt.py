"""USDT programs built with libbpf's usdt.bpf.h, attached to a program built with sys/sdt.h."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tracebee
from tracebee.engine.kernel import kconfig
from tracebee.engine.kernel.object_files import LoadOptions, load_and_pin
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.kernel import pins
from tracebee.kernel.mounts import open_detached

pytestmark = [pytest.mark.needs("bpf", "clang", "gcc", "sdt")]
SOURCE = Path(__file__).parents[1] / "programs" / "usdt_sites.c"


class Sites:
    """The program with the probes, running."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._child = subprocess.Popen(
            [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._line() == "ready"
        self.pid = self._child.pid

    def fire(self, letter: str) -> int:
        """Fire one probe; returns the value of the semaphore of ``guarded``."""
        assert self._child.stdin is not None
        self._child.stdin.write(letter + "\n")
        self._child.stdin.flush()
        answer, value = self._line().split()
        assert answer == letter
        return int(value)

    def _line(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def close(self) -> None:
        self._child.communicate()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def build(name: str, *flags: str) -> Path:
        path = tmp_path_factory.getbasetemp() / name
        subprocess.run(["gcc", "-O1", *flags, "-o", path, SOURCE], check=True)
        return path

    return build


@pytest.fixture
def sites(built: Callable[..., Path]) -> Iterator[Sites]:
    running = Sites(built("usdt_sites"))
    yield running
    running.close()


@pytest.fixture
def obj(compiled: Callable[[str], str]) -> Iterator[tracebee.Object]:
    with tracebee.Object(compiled("usdt")) as opened:
        opened.load()
        yield opened


SHAPES = [0x1122334455667788, 0xFFFFFFF0, -300, 200, -5, -9, 2 * 0x1122334455667788, -77]


def seen(obj: tracebee.Object) -> dict[str, Any]:
    names = ("hits", "count", "cookie", "failed", "seen")
    return {name: obj.variables[name] for name in names}


def test_every_shape_of_argument(obj: tracebee.Object, sites: Sites) -> None:
    with obj.programs["any"].attach(f"{sites.path}:bee:shapes", cookie=1 << 40 | 7):
        sites.fire("s")
    found = seen(obj)
    assert found["seen"][:8] == SHAPES
    assert found["seen"][8:12] == [0] * 4
    assert (found["hits"], found["count"], found["cookie"], found["failed"]) == (1, 8, 1 << 40 | 7, 0)
    sites.fire("s")
    assert obj.variables["hits"] == 1


def test_every_place_of_a_probe_has_its_own_arguments(compiled: Callable[[str], str], sites: Sites) -> None:
    with tracebee.Object(compiled("usdt")) as obj:
        obj.programs["any"].autoload = False
        obj.programs["pair"].autoload = True
        obj.load()
        pairs = []
        with obj.programs["pair"].attach(f"{sites.path}:bee:pair", pid=sites.pid):
            sites.fire("p")
            pairs.append((obj.variables["first"], obj.variables["second"]))
        assert pairs == [(7, 8)]  # the last of three places


def test_no_arguments_and_two_probes_at_once(obj: tracebee.Object, sites: Sites) -> None:
    program = obj.programs["any"]
    with (
        program.attach(f"{sites.path}:bee:none", cookie=1),
        program.attach(f"{sites.path}:bee:pair", cookie=2),
    ):
        sites.fire("n")
        assert (obj.variables["count"], obj.variables["cookie"]) == (0, 1)
        sites.fire("p")
        assert (obj.variables["count"], obj.variables["cookie"]) == (2, 2)
        assert obj.variables["hits"] == 4
        sites.fire("n")
        assert obj.variables["cookie"] == 1


def test_the_semaphore_is_raised_while_attached(obj: tracebee.Object, sites: Sites) -> None:
    assert sites.fire("g") == 0
    with obj.programs["any"].attach(f"{sites.path}:bee:guarded"):
        assert sites.fire("g") == 1
        assert obj.variables["seen"][0] == 42
    assert sites.fire("g") == 0
    assert obj.variables["hits"] == 1


def test_numbers_of_descriptions_are_used_again(compiled: Callable[[str], str], sites: Sites) -> None:
    with tracebee.Object(compiled("usdt")) as obj:
        obj.maps["__bpf_usdt_specs"].max_entries = 3
        obj.load()
        program = obj.programs["any"]
        for _ in range(3):
            with program.attach(f"{sites.path}:bee:pair"):  # three places, three descriptions
                with pytest.raises(UnsupportedError, match="more than 3 layouts"):
                    program.attach(f"{sites.path}:bee:shapes")
                sites.fire("p")
        assert obj.variables["hits"] == 9


def test_kernels_without_cookies_go_by_the_address(
    compiled: Callable[[str], str],
    built: Callable[..., Path],
    sites: Sites,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kconfig, "has_cookie", lambda: False)
    monkeypatch.setattr("tracebee.engine.kernel.usdt.has_cookie", lambda: False)
    fixed = Sites(built("usdt_fixed", "-no-pie"))
    try:
        with tracebee.Object(compiled("usdt")) as obj:
            obj.load()
            assert obj.variables["LINUX_HAS_BPF_COOKIE"] is False
            program = obj.programs["any"]
            with pytest.raises(UnsupportedError, match="can lie anywhere in memory"):
                program.attach(f"{sites.path}:bee:shapes")
            for running, pid in ((fixed, None), (sites, sites.pid)):
                with program.attach(f"{running.path}:bee:shapes", pid=pid, cookie=9):
                    running.fire("s")
                assert obj.variables["seen"][:8] == SHAPES
                assert obj.variables["cookie"] == 9
                assert dict(obj.maps["__bpf_usdt_ip_to_spec_id"]) == {}
            assert obj.variables["hits"] == 2
    finally:
        fixed.close()


def test_kernels_without_links_to_many_places(
    compiled: Callable[[str], str], sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tracebee.engine.kernel.sections.kernel_has", lambda feature: feature != "uprobe_multi"
    )
    with tracebee.Object(compiled("usdt")) as obj, open_detached("bpf") as root:
        obj.load()
        program = obj.programs["any"]
        with program.attach(f"{sites.path}:bee:shapes", pid=sites.pid, cookie=5):
            sites.fire("s")
        assert obj.variables["seen"][:8] == SHAPES
        assert obj.variables["cookie"] == 5
        attachment = program.attach(f"{sites.path}:bee:pair")
        assert len(attachment.links) == 3
        bpffs = f"/proc/self/fd/{root.fd}"
        attachment.pin(f"{bpffs}/pair")
        attachment.close()
        # Their descriptions are not given to others.
        others = [program.attach(f"{sites.path}:bee:shapes", cookie=number) for number in range(3)]
        sites.fire("p")
        assert len(others) == 3
        assert obj.variables["hits"] == 4
        assert [obj.variables["seen[0]"], obj.variables["seen[1]"]] == [7, 8]
        names = sorted(pin.path.rpartition("/")[2] for pin in pins.walk(bpffs))
        assert names == ["pair", "pair_1", "pair_2"]
        for name in names:
            pins.unpin(f"{bpffs}/{name}")


def test_what_is_not_there(obj: tracebee.Object, sites: Sites) -> None:
    program = obj.programs["any"]
    with pytest.raises(SymbolError, match="no USDT probe 'bee:shape'") as caught:
        program.attach(f"{sites.path}:bee:shape")
    assert caught.value.candidates == ("bee:shapes",)
    with pytest.raises(SymbolError, match="/true has no USDT probes"):
        program.attach("/bin/true:bee:shapes")
    with pytest.raises(UnsupportedError, match="does not name a USDT probe"):
        program.attach(f"{sites.path}:shapes")
    with pytest.raises(UnsupportedError, match="does not say where 'any'"):
        program.attach()


def test_by_bcc_names(compiled: Callable[[str], str], sites: Sites) -> None:
    with tracebee.BPF(src_file=compiled("usdt")) as bpf:
        for probe in ("shapes", "bee:shapes"):
            with bpf.attach_usdt(name=sites.path, probe=probe, fn_name="any", pid=sites.pid):
                sites.fire("s")
        data = bpf[".bss"].map.lookup(bytes(4)) or b""
        variables = {v.name: v.offset for v in bpf.object.variables if v.map == ".bss"}
        words = [int.from_bytes(data[variables[n] :][:8], "little") for n in ("hits", "count", "seen")]
        assert words == [2, 8, SHAPES[0]]


def test_the_attachment_outlives_the_loader(sites: Sites, tmp_path: Path) -> None:
    """A section with a place is attached and pinned; its arguments are still described."""
    source = tmp_path / "placed.bpf.c"
    original = Path(__file__).parents[1] / "obj" / "programs" / "usdt.bpf.c"
    source.write_text(original.read_text().replace('SEC("usdt")', f'SEC("usdt/{sites.path}:bee:shapes")'))
    target = tmp_path / "placed.bpf.o"
    machine = os.uname().machine
    registers = f"-D__TARGET_ARCH_{'x86' if machine == 'x86_64' else 'arm64'}"
    flags = ["-O2", "-g", "-target", "bpf", f"-I/usr/include/{machine}-linux-gnu", registers]
    subprocess.run(["clang", *flags, "-c", source, "-o", target], check=True)
    with open_detached("bpf") as root:
        bpffs = f"/proc/self/fd/{root.fd}"
        options = LoadOptions(attach=True, pin_maps=f"{bpffs}/maps")
        load_and_pin(str(target), f"{bpffs}/all", everything=True, options=options)
        assert [(p.kind, p.path.rpartition("/")[2]) for p in pins.walk(f"{bpffs}/all")] == [("link", "any")]
        sites.fire("s")
        with tracebee.kernel.map.Map.pinned(f"{bpffs}/maps/_bss") as data:
            value = data.lookup(bytes(4)) or b""
        assert (0x1122334455667788).to_bytes(8, "little") in value
        pins.unpin(f"{bpffs}/all/any")


@pytest.mark.needs("libbpf")
@pytest.mark.parametrize("probe", ["shapes", "pair", "none"])
def test_described_as_libbpf_does(
    compiled: Callable[[str], str], built: Callable[..., Path], tmp_path: Path, probe: str
) -> None:
    subprocess.run(["gcc", "-o", tmp_path / "dump", SOURCE.with_name("usdt_dump.c"), "-lbpf"], check=True)
    program = built("usdt_plain", "-DWITHOUT_NAMES")
    command = [tmp_path / "dump", compiled("usdt"), program, probe]
    theirs = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    with tracebee.Object(compiled("usdt")) as obj:
        obj.load()
        with obj.programs["any"].attach(f"{program}:bee:{probe}"):
            table = obj.maps["__bpf_usdt_specs"].map
            ours = [(table.lookup(number.to_bytes(4, "little")) or b"").hex() for number in range(4)]
    assert ours == theirs
