"""Places in programs and libraries that a built script traces, found again in the files of this machine."""

from __future__ import annotations

from tracebee.elf import ElfFile, find_symbol
from tracebee.errors import DecodeError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HINT = "build the script on this machine"


def note_file(spec: dict[str, Any], image: ElfFile, into: int = 0) -> None:
    """Say in a target's spec which file its place was found in.

    :param into: bytes from the start of the spec's ``symbol``.
    """
    spec["build_id"] = image.build_id or ""
    if into:
        spec["into"] = into


def found_here(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with the place in this machine's file: another version's functions lie elsewhere.

    :raises UnsupportedError: there is no such file, or it is another one and the place is no function: a
        USDT probe's arguments are in the code, and an address is one of the file the script was built for.
    """
    if "build_id" not in spec:
        return spec
    path, symbol = spec["path"], str(spec.get("symbol", ""))
    try:
        with ElfFile(path) as image:
            if (image.build_id or "") == spec["build_id"]:
                return spec
            if kind == "usdt" or symbol[:1].isdigit():
                raise UnsupportedError(f"{path} is not the file that the script was built for", hint=_HINT)
            found = find_symbol(image, symbol)
            at = None if found is None else image.file_offset(found.addr + spec.get("into", 0))
    except OSError as error:
        raise UnsupportedError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error
    except DecodeError as error:
        raise UnsupportedError(error.message, hint=_HINT) from error
    if at is None:
        raise UnsupportedError(f"{path} has no function '{symbol}' here", hint=_HINT)
    return {**spec, "offset": at}
