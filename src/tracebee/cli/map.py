"""``tracebee map``: maps, and what is in them."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from tracebee import uapi
from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import TracebeeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.kernel.fd import Fd
    from tracebee.kernel.map import Map
    from tracebee.report.inspect.elements import MapTypes

USAGE = """\
usage: tracebee map [show|list] [MAP]
       tracebee map dump MAP
       tracebee map lookup MAP [key DATA]
       tracebee map getnext MAP [key DATA]
       tracebee map update MAP [key DATA] value VALUE [any|exist|noexist]
       tracebee map delete MAP key DATA
       tracebee map create PATH type TYPE key SIZE value SIZE entries NUMBER name NAME
                                [flags FLAGS] [inner_map MAP]
       tracebee map pin MAP PATH
       tracebee map freeze MAP
       tracebee map push|enqueue MAP value VALUE      tracebee map pop|dequeue|peek MAP
       tracebee map event_pipe MAP [cpu NUMBER index NUMBER]
  MAP := { id NUMBER | name NAME | pinned PATH }   PROG := { id NUMBER | name NAME | tag TAG | pinned PATH }
  DATA := { BYTE... | hex BYTE... | json TEXT }    VALUE := { DATA | MAP | PROG }
  options: -j JSON, -p indented JSON, -f with the places where it is pinned"""

_FLAGS = {"any": uapi.BPF_ANY, "exist": uapi.BPF_EXIST, "noexist": uapi.BPF_NOEXIST}
_OF_MAPS = (uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS, uapi.BPF_MAP_TYPE_HASH_OF_MAPS)
_QUEUES = (uapi.BPF_MAP_TYPE_QUEUE, uapi.BPF_MAP_TYPE_STACK, uapi.BPF_MAP_TYPE_BLOOM_FILTER)
_KEYWORDS = ("key", "value", *_FLAGS)


def run(argv: list[str]) -> int:
    """The command ``tracebee map``."""
    commands = {
        "show": _show,
        "list": _show,
        "dump": _dump,
        "lookup": _lookup,
        "getnext": _next,
        "update": _update,
        "delete": _delete,
        "create": _create,
        "pin": _pin,
        "freeze": _freeze,
        "push": _push,
        "enqueue": _push,
        "pop": _pop,
        "dequeue": _pop,
        "peek": _peek,
        "event_pipe": _event_pipe,
    }
    return dispatch(argv, commands, USAGE)


def _show(words: Words) -> int:
    from tracebee.kernel import choose
    from tracebee.report.inspect.map import map_text
    from tracebee.report.inspect.survey import map_records

    how = words.choice(*choice.MAP) if words else None
    words.end()
    records = map_records(choose.maps(*how) if how else None, bpffs=words.bpffs)
    return choice.show(words, records, map_text, one=how is not None)


def _dump(words: Words) -> int:
    from tracebee.kernel import choose

    chosen = choose.maps(*words.choice(*choice.MAP))
    words.end()
    parts = [_dump_one(words, table, alone=len(chosen) == 1) for table in chosen]
    if words.json:
        words.print_json(parts[0] if len(parts) == 1 else parts)
    else:
        print("\n\n".join(parts))
    return 0


def _dump_one(words: Words, table: Map, *, alone: bool) -> Any:
    """A map's elements, as a record or as text; behind the map's own description unless it is alone."""
    from tracebee.report.inspect.elements import MapTypes, element_record, element_text, elements
    from tracebee.report.inspect.map import map_record, map_text
    from tracebee.report.inspect.output import json_text

    with table:
        types, pairs = MapTypes.of(table), elements(table)
        head = {} if alone else map_record(table)
        if words.json:
            records = [element_record(table, types, key, value) for key, value in pairs]
            return records if alone else {**head, "elements": records}
        lines = [] if alone else [map_text(head)]
        if types.btf is not None:
            shown = [types.formatted(table, key, value) for key, value in pairs if isinstance(value, bytes)]
            lines.append(json_text(shown, pretty=True))
        else:
            lines += [element_text(table, key, value) for key, value in pairs]
            found = sum(isinstance(value, bytes) for _, value in pairs)
            lines.append(f"Found {found} element{'' if found == 1 else 's'}")
        return "\n".join(lines)


def _lookup(words: Words) -> int:
    with choice.one_map(words) as table:
        types = _types(table)
        key = _key(words, table, types)
        words.end()
        value = table.lookup(key)
        if value is None:
            raise TracebeeError(f"the map has no key {key.hex(' ')}")
        _print_element(words, table, types, key, value)
    return 0


def _next(words: Words) -> int:
    from tracebee.report.inspect.output import hex_bytes, hex_text

    with choice.one_map(words) as table:
        types = _types(table)
        key = _key(words, table, types) if words.peek() == "key" else None
        words.end()
        found = table.next_key(key)
        if found is None:
            raise TracebeeError("the map has no further key" if key else "the map is empty")
    if words.json:
        record: dict[str, Any] = {
            "key": None if key is None else hex_bytes(key),
            "next_key": hex_bytes(found),
        }
        words.print_json(record)
    else:
        shown = "key: None" if key is None else f"key:\n{hex_text(key)}"
        print(f"{shown}\nnext key:\n{hex_text(found)}")
    return 0


def _update(words: Words) -> int:
    with choice.one_map(words) as table, ExitStack() as held:
        types = _types(table)
        key = _key(words, table, types)
        value = _value(words, table, types, held)
        flag = words.accept(*_FLAGS)
        words.end()
        table.update(key, value, _FLAGS[flag] if flag else uapi.BPF_ANY)
    return choice.done(words)


def _delete(words: Words) -> int:
    with choice.one_map(words) as table:
        key = _key(words, table, _types(table))
        words.end()
        if not table.delete(key):
            raise TracebeeError(f"the map has no key {key.hex(' ')}")
    return choice.done(words)


def _create(words: Words) -> int:
    from tracebee.kernel.map import Map
    from tracebee.obj.model import MapDef

    path = choice.pin_path(words)
    numbers = {"key": 0, "value": 0, "entries": 0, "flags": 0}
    kind, name, inner = "", "", None
    try:
        while words:
            word = words.next("an option")
            if word == "type":
                kind = words.next("a map type")
            elif word == "name":
                name = words.next("a name")
            elif word == "inner_map":
                inner = choice.one_map(words)
            elif word in numbers:
                numbers[word] = words.number(f"a number for {word}")
            else:
                raise words.unexpected(word)
        if kind not in uapi.MAP_TYPES:
            raise UsageError(f"there is no map type '{kind}'", hint="see 'tracebee feature'")
        definition = MapDef(
            name, uapi.MAP_TYPES[kind], numbers["key"], numbers["value"], numbers["entries"], numbers["flags"]
        )
        with Map.create(definition, inner=inner) as table:
            choice.pin(words, table, path)
    finally:
        if inner is not None:
            inner.close()
    return choice.done(words)


def _pin(words: Words) -> int:
    with choice.one_map(words) as table:
        path = choice.pin_path(words)
        words.end()
        choice.pin(words, table, path)
    return choice.done(words)


def _freeze(words: Words) -> int:
    with choice.one_map(words) as table:
        words.end()
        table.freeze()
    return choice.done(words)


def _push(words: Words) -> int:
    with choice.one_map(words) as table, ExitStack() as held:
        _without_keys(table)
        value = _value(words, table, _types(table), held)
        words.end()
        table.update(b"", value)
    return choice.done(words)


def _pop(words: Words) -> int:
    return _take(words, remove=True)


def _peek(words: Words) -> int:
    return _take(words, remove=False)


def _take(words: Words, *, remove: bool) -> int:
    with choice.one_map(words) as table:
        words.end()
        _without_keys(table)
        value = table.lookup_and_delete() if remove else table.lookup(b"")
        if value is None:
            raise TracebeeError("the map is empty")
        _print_element(words, table, _types(table), None, value)
    return 0


def _without_keys(table: Map) -> None:
    if table.type not in _QUEUES:
        raise UsageError(
            f"map '{table.name}' has keys: it is no queue, stack or bloom filter",
            hint="use 'map update', 'map lookup' and 'map delete'",
        )


def _event_pipe(words: Words) -> int:
    from tracebee.report.inspect.events import event_json, event_text, events

    with choice.one_map(words) as table:
        places: dict[str, int] = {}
        while word := words.accept("cpu", "index"):
            places[word] = words.number(f"a number for {word}")
        words.end()
        if len(places) == 1:
            raise UsageError("cpu and index go together", hint=words.hint)
        show = event_json if words.json else event_text
        for event in events(table, {places["cpu"]: places["index"]} if places else None):
            print(show(event), flush=True)
    return 0


def _print_element(words: Words, table: Map, types: MapTypes, key: bytes | None, value: bytes) -> None:
    from tracebee.report.inspect.elements import element_record, element_text
    from tracebee.report.inspect.output import json_text

    formatted = types.formatted(table, key, value)
    if words.json:
        words.print_json(element_record(table, types, key, value))
    elif formatted is not None:
        print(json_text(formatted, pretty=True))
    else:
        print(element_text(table, key, value))


def _types(table: Map) -> MapTypes:
    from tracebee.report.inspect.elements import MapTypes

    return MapTypes.of(table)


def _key(words: Words, table: Map, types: MapTypes) -> bytes:
    if not table.key_size:
        return b""
    words.expect("key")
    return _data(words, table.key_size, types, types.key, "key")


def _value(words: Words, table: Map, types: MapTypes, held: ExitStack) -> bytes:
    """A value: bytes, the same for every CPU in a per-CPU map, or the descriptor of a map or program,
    which must stay open until the kernel has looked at it.
    """
    words.expect("value")
    if table.type == uapi.BPF_MAP_TYPE_PROG_ARRAY:
        return _descriptor(table, choice.program(words), held)
    if table.type in _OF_MAPS:
        return _descriptor(table, choice.one_map(words), held)
    value = _data(words, table.value_size, types, types.value, "value")
    return (
        table.join_slots([value] * len(table.slots(bytes(table.value_bytes)))) if table.is_per_cpu else value
    )


def _descriptor(table: Map, thing: Fd, held: ExitStack) -> bytes:
    held.enter_context(thing)
    return thing.fd.to_bytes(table.value_bytes, sys.byteorder)


def _data(words: Words, size: int, types: MapTypes, type_id: int, what: str) -> bytes:
    if words.accept("json"):
        import json

        from tracebee.obj.variables import encode_value

        if types.btf is None or not type_id:
            raise UsageError(f"the map says nothing of its {what}'s type", hint="give bytes instead of json")
        try:
            value = json.loads(words.next("a JSON text"))
        except ValueError as error:
            raise UsageError(f"that is no JSON: {error}") from error
        return encode_value(types.btf, type_id, value, size, what)
    base = 16 if words.accept("hex") else 0
    numbers: list[int] = []
    while words and words.peek() not in _KEYWORDS:
        word = words.next("a byte")
        try:
            number = int(word, base)
        except ValueError:
            raise UsageError(f"expected a byte of the {what}, not '{word}'", hint=words.hint) from None
        if not 0 <= number <= 255:
            raise UsageError(f"{word} is no byte")
        numbers.append(number)
    if len(numbers) != size:
        raise UsageError(f"the {what} has {size} bytes, not {len(numbers)}")
    return bytes(numbers)
