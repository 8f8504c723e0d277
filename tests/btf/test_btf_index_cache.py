"""The type index kept between runs: only what is exactly right is used."""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path

import pytest

from tracebee.btf import index_cache

ANCHORS = array("I", [24, 300, 700])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tracebee"


def test_what_was_stored_is_loaded(home: Path) -> None:
    assert index_cache.load("key", 24, 1000) is None
    index_cache.store("key", 24, 1000, ANCHORS, 40)
    assert index_cache.load("key", 24, 1000) == (ANCHORS, 40)
    assert index_cache.load("other", 24, 1000) is None
    assert home.stat().st_mode & 0o777 == 0o700
    # Nothing half-written is left beside it.
    assert os.listdir(home) == ["btf-key"]


def test_of_another_section_it_is_not_used() -> None:
    index_cache.store("key", 24, 1000, ANCHORS, 40)
    assert index_cache.load("key", 28, 1000) is None
    assert index_cache.load("key", 24, 1004) is None


def test_any_changed_byte_makes_it_void(home: Path) -> None:
    index_cache.store("key", 24, 1000, ANCHORS, 40)
    file = home / "btf-key"
    good = file.read_bytes()
    for at in range(len(good)):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert index_cache.load("key", 24, 1000) is None, at
        file.write_bytes(good[:at])
        assert index_cache.load("key", 24, 1000) is None, at
    file.write_bytes(good + b"\0")
    assert index_cache.load("key", 24, 1000) is None
    file.write_bytes(good)
    assert index_cache.load("key", 24, 1000) == (ANCHORS, 40)


@pytest.mark.needs("root")
def test_a_strangers_file_is_not_used(home: Path) -> None:
    index_cache.store("key", 24, 1000, ANCHORS, 40)
    os.chown(home / "btf-key", 65534, 65534)
    assert index_cache.load("key", 24, 1000) is None
    # The next store replaces it by our own.
    index_cache.store("key", 24, 1000, ANCHORS, 40)
    assert index_cache.load("key", 24, 1000) == (ANCHORS, 40)


def test_where_nothing_can_be_written_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    index_cache.store("key", 24, 1000, ANCHORS, 40)
    assert index_cache.load("key", 24, 1000) is None


def note(name: bytes, kind: int, body: bytes) -> bytes:
    return struct.pack("=III", len(name), len(body), kind) + b"".join(
        part + bytes(-len(part) % 4) for part in (name, body)
    )


@pytest.mark.parametrize(
    ("notes", "found"),
    [
        (note(b"GNU\0", 3, b"\x01\xab\xcd"), "01abcd"),
        (
            note(b"Linux\0", 257, b"12345") + note(b"GNU\0", 1, b"1234") + note(b"GNU\0", 3, b"\xff" * 20),
            "ff" * 20,
        ),
        (note(b"Xen\0", 3, b"\x01"), None),
        (b"", None),
        (note(b"GNU\0", 1, b"1234")[:-2], None),
    ],
)
def test_the_build_id_of_a_kernel(
    notes: bytes, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").write_bytes(notes)
    monkeypatch.setattr("builtins.open", lambda path, mode: (tmp_path / "notes").open(mode))
    assert index_cache.kernel_build_id() == found


@pytest.mark.needs("btf")
def test_the_running_kernel_has_a_build_id() -> None:
    found = index_cache.kernel_build_id()
    assert found is not None
    assert len(bytes.fromhex(found)) in (16, 20)
