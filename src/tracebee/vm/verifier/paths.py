"""What a verification is for, and the steps of the paths it walks."""

from __future__ import annotations

from typing import NamedTuple


class Path(NamedTuple):
    """A step of the path that led to a refusal: the slot, and how its branch went (None: no branch)."""

    slot: int
    taken: bool | None


class Settings(NamedTuple):
    """What a program is verified for; see ``verify.verify``."""

    program_type: int
    attach_type: int = 0
    license: str = "GPL"
    sleepable: bool = False
    privileged: bool = True
    uninitialised_stack: bool = True  # whether the privileged may read stack bytes nobody wrote
    strict_alignment: bool = False
    limit: int = 1_000_000
    cpus: int = 8192
    machine: str = "x86_64"
