"""``tracebee btf``: type information in the kernel and in files."""

from __future__ import annotations

from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import TracebeeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.btf.reader import Btf

USAGE = """\
usage: tracebee btf [show|list] [id NUMBER]         BTF objects, and what uses them
       tracebee btf dump SOURCE [format {raw|c [unsorted]}]
                                                    their types; C by name, or unsorted by their ids
  SOURCE := { id NUMBER | prog PROG | map MAP [key|value|kv|all] | file PATH | vmlinux | module NAME }
  options: -j JSON, -p indented JSON, -B FILE the kernel's types that those of a module's file continue"""


def run(argv: list[str]) -> int:
    """The command ``tracebee btf``."""
    from tracebee.cli.gen import minimise_types

    # The last is where tracebee once had what is now, as in bpftool, in gen.
    commands = {"show": _show, "list": _show, "dump": _dump, "min_core_btf": minimise_types}
    return dispatch(argv, commands, USAGE)


def _show(words: Words) -> int:
    from tracebee.report.inspect.btf import btf_text
    from tracebee.report.inspect.survey import btf_records

    numbers = None
    if words:
        words.accept("id")
        numbers = [words.number("a BTF object's id")]
    words.end()
    return choice.show(words, btf_records(numbers), btf_text, one=numbers is not None)


def _dump(words: Words) -> int:
    from tracebee.btf import raw
    from tracebee.btf.cdump import format_c

    btf, ids = _source(words)
    style = words.next("raw or c") if words.accept("format") else "raw"
    by_name = not (style == "c" and words.accept("unsorted"))
    words.end()
    if style not in ("raw", "c"):
        raise UsageError(f"there is no format '{style}'", hint=words.hint)
    if style == "c":
        if words.json:
            raise UsageError("C and JSON cannot be had at once")
        print(format_c(btf, ids, by_name=by_name), end="")
        return 0
    if words.json:
        records = [record for record in raw.records(btf) if ids is None or record["id"] in ids]
        words.print_json({"types": records})
        return 0
    wanted = True
    for line in raw.format_raw(btf):
        if line.startswith("["):
            wanted = ids is None or int(line[1 : line.index("]")]) in ids
        if wanted:
            print(line)
    return 0


def _source(words: Words) -> tuple[Btf, Sequence[int] | None]:
    """The types asked for, and which of them; None for all."""
    from tracebee.btf import opening
    from tracebee.report.inspect.btf import btf_of

    kind = words.next("where the types are")
    if kind == "id":
        return btf_of(words.number("a BTF object's id")), None
    if kind == "file":
        base = opening.open_file(words.base) if words.base else None
        return opening.open_file(words.next("a file's path"), base), None
    if kind == "vmlinux":
        return opening.open_vmlinux(), None
    if kind == "module":
        return opening.open_module(words.next("a module's name")), None
    if kind == "prog":
        with choice.program(words) as program:
            number = program.info().btf_id
        if not number:
            raise TracebeeError("the program has no type information")
        return btf_of(number), None
    if kind == "map":
        with choice.one_map(words) as table:
            info = table.info()
        if not info.btf_id:
            raise TracebeeError("the map has no type information")
        part = words.accept("key", "value", "kv", "all") or "kv"
        wanted = {
            "key": (info.btf_key_type_id,),
            "value": (info.btf_value_type_id,),
            "kv": (info.btf_key_type_id, info.btf_value_type_id),
            "all": None,
        }[part]
        return btf_of(info.btf_id), wanted
    raise UsageError(f"there is no source '{kind}'", hint=words.hint)
