"""Strings and bytes: reading them, comparing them, searching in them."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.analyse_expressions import literal_bytes
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import Gen, Place, chunks, type_of
from tracebee.lang.lower_expressions import string_into
from tracebee.lang.types import BOOL, INT64, UINT64, Type, display, string
from tracebee.lang.unify import UNKNOWN, as_integer, is_number, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Block, Value
    from tracebee.lang.analyse import Analyser

# A byte that no NUL-terminated string ends in: the string was cut off.
_CUT = 0xFF


# --- str and buf ----------------------------------------------------------------------------------


def parameter_text(a: Analyser, node: ast.Node) -> str | None:
    """The text when ``str()`` is asked of a positional parameter, or of one plus a number."""
    if isinstance(node, ast.Positional):
        found = a.options.parameters[node.number - 1 : node.number] if node.number else ()
        return found[0] if found else ""
    if isinstance(node, ast.Binary) and node.op == "+" and isinstance(node.left, ast.Positional):
        skip = a.constant(node.right)
        text = parameter_text(a, node.left)
        if isinstance(skip, int) and text is not None:
            return text[skip:]
    return None


def _str_constant(a: Analyser, node: ast.Call) -> str | None:
    return parameter_text(a, node.arguments[0])


def _length(a: Analyser, node: ast.Call, default: int) -> int | None:
    """The second argument as a bound on the result's size, when it is a literal; None when wrong."""
    if len(node.arguments) < 2:
        return default
    limit = a.options.max_strlen
    t = a.integer(node.arguments[1], f"{node.name}()'s length")
    if t.kind == "unknown":
        return None
    given = a.constant(node.arguments[1])
    if not isinstance(given, int):
        return limit
    if given < 0:
        a.error(f"{node.name}() length must not be negative ({given} provided)", node.arguments[1].span)
        return None
    if given > limit:
        a.warn(
            f"length param ({given}) is greater than max_strlen ({limit}): the result is cut at {limit}",
            node.arguments[1].span,
            "raise the config variable max_strlen",
        )
    return min(given, limit)


def _check_str(a: Analyser, node: ast.Call) -> Type:
    first = node.arguments[0]
    text = parameter_text(a, first)
    if text is not None:
        _length(a, node, 0)
        return string(len(text.encode("utf-8", "surrogateescape")) + 1)
    t = a.value(first)
    size = _length(a, node, a.options.max_strlen)
    if size is None or t.kind == "unknown":
        return UNKNOWN
    if t.kind == "string":
        return string(min(max(t.size, 1), size) if len(node.arguments) > 1 else t.size or size)
    if t.kind == "array" and t.element is not None and t.element.size == 1:
        return string(min(t.size + 1, size) if t.size else size)
    if t.kind not in ("int", "pointer"):
        return a.error(
            f"str() expects an integer or a pointer type as first argument ({display(t)} provided)",
            first.span,
        )
    return string(max(1, size))


def _str_into(g: Gen, node: ast.Call, ptr: Value, offset: int, t: Type, pad: bool) -> None:
    first = node.arguments[0]
    text = parameter_text(g.analyser, first)
    if text is not None:
        string_into(g, text.encode("utf-8", "surrogateescape"), ptr, offset, t.size, pad=pad)
        return
    b = g.b
    source, size = type_of(first), min(type_of(node).size, t.size)
    target = b.binary("add", ptr, offset) if offset else ptr
    if source.kind in ("string", "array"):
        place = g.place(first)
        if place.is_own and source.kind == "string":
            g.copy(place, source._replace(size=min(source.size, size)), ptr, offset, t, pad=pad)
            return
        space, address = place.space or "kernel", g.address(place)
    else:
        space = (source.name if source.kind == "pointer" else "") or g.group.address_space
        address = g.value(first)
    if pad:
        g.zero(ptr, offset, t.size)
    length = _dynamic_length(g, node, size)
    got = b.helper(f"probe_read_{space}_str", target, size if length is None else length, address)
    if t.size != size or size < 2:
        return
    cut, done = b.block("cut"), b.block("read")
    b.branch(b.compare("eq", got, size), cut, done)
    b.at(cut)
    b.store(ptr, offset + size - 1, 1, _CUT)
    b.jump(done)
    b.at(done)


def _dynamic_length(g: Gen, node: ast.Call, size: int) -> Value | None:
    """A length known only when running, cut to the object's size."""
    if len(node.arguments) < 2 or isinstance(g.analyser.constant(node.arguments[1]), int):
        return None
    length = g.value(node.arguments[1])
    return g.b.select(g.b.compare("ult", length, size), length, size)


def _check_buf(a: Analyser, node: ast.Call) -> Type:
    first = node.arguments[0]
    t = a.value(first)
    limit = a.options.max_strlen
    size = _length(a, node, t.size if t.kind in ("array", "string", "record") else limit)
    if size is None or t.kind == "unknown":
        return UNKNOWN
    if t.kind not in ("int", "pointer", "array", "string", "record"):
        return a.error(f"buf() expects an integer, pointer or array ({display(t)} provided)", first.span)
    if len(node.arguments) < 2 and t.kind in ("int", "pointer"):
        return a.error(
            "buf() expects a length argument for non-array type", node.span, "buf(pointer, length)"
        )
    return Type("buffer", -(-(4 + min(size, limit)) // 4) * 4)


def _buf_into(g: Gen, node: ast.Call, ptr: Value, offset: int, t: Type, pad: bool) -> None:
    b = g.b
    first = node.arguments[0]
    source = type_of(first)
    capacity = t.size - 4
    constant = g.analyser.constant(node.arguments[1]) if len(node.arguments) > 1 else source.size
    length: Value | int
    if isinstance(constant, int):
        length = min(constant, capacity)
    else:
        given = g.value(node.arguments[1])
        length = b.select(b.compare("ult", given, capacity), given, capacity)
    if pad:
        g.zero(ptr, offset + 4, capacity)
    b.store(ptr, offset, 4, length)
    target = b.binary("add", ptr, offset + 4)
    if source.kind in ("array", "string", "record"):
        place = g.place(first)
        if place.is_own and isinstance(length, int):
            g.read(place, ptr, offset + 4, min(length, source.size))
            return
        space, address = place.space or "kernel", g.address(place)
    else:
        space = (source.name if source.kind == "pointer" else "") or g.group.address_space
        address = g.value(first)
    b.helper(f"probe_read_{space}", target, length, address)


# --- comparing ------------------------------------------------------------------------------------


def local_place(g: Gen, node: ast.Node) -> Place:
    """Where a value lies in memory the program may read, copied there when it does not."""
    place = g.place(node)
    if place.is_own:
        return place
    t = type_of(node)
    ptr = g.b.alloca(max(1, t.size), 8)
    g.copy(place, t, ptr, 0, t)
    return Place(ptr)


def compare_memory(g: Gen, node: ast.Binary) -> Value:
    """``==`` and ``!=`` of values in memory, as 0 or 1."""
    b = g.b
    yes, no, done = b.block("yes"), b.block("no"), b.block("compared")
    branch_memory(g, node, yes, no)
    result = b.local("equal")
    for block, number in ((yes, 1), (no, 0)):
        b.at(block)
        b.set(result, b.const(number))
        b.jump(done)
    b.at(done)
    return b.get(result)


def branch_memory(g: Gen, node: ast.Binary, then: Block, otherwise: Block) -> None:
    """Go to ``then`` when ``==`` or ``!=`` of values in memory holds."""
    same, differ = (then, otherwise) if node.op == "==" else (otherwise, then)
    left, right = node.left, node.right
    x, y = type_of(left), type_of(right)
    if x.kind != "string":
        common = x if x.fields == y.fields else join(x, y)
        places = [_as_type(g, node, common or x) for node in (left, right)]
        _branch_bytes(
            g,
            places[0],
            places[1],
            (common or x).size if x.kind == "tuple" else min(x.size, y.size),
            same,
            differ,
        )
        return
    for literal, other in ((right, left), (left, right)):
        data = _literal(g, literal)
        if data is not None:
            branch_literal(g, other, data, same, differ)
            return
    _branch_strings(g, local_place(g, left), local_place(g, right), min(x.size, y.size), same, differ)


def _as_type(g: Gen, node: ast.Node, t: Type) -> Place:
    """Where a value lies, laid out as type ``t``: tuples of different integers are made alike."""
    if t.kind != "tuple" or type_of(node) == t:
        return local_place(g, node)
    ptr = g.b.alloca(max(1, t.size), 8)
    g.into(node, ptr, 0, t)
    return Place(ptr)


def _literal(g: Gen, node: ast.Node) -> bytes | None:
    """The bytes of a string known while compiling."""
    if isinstance(node, ast.String):
        return literal_bytes(node.value)
    if isinstance(node, (ast.Positional, ast.Call)):
        found = g.analyser.constant(node)
        return found.encode("utf-8", "surrogateescape") if isinstance(found, str) else None
    return None


def branch_literal(
    g: Gen, node: ast.Node, data: bytes, same: Block, differ: Block, length: int | None = None
) -> None:
    """Compare with a literal, as many bytes at a time as fit; ``length``: only so many (no NUL then)."""
    size = type_of(node).size
    wanted = (data + b"\0")[: len(data) + 1 if length is None else length]
    if len(wanted) > size:
        g.place(node)
        g.b.jump(differ)
        return
    place = local_place(g, node)
    if length is None and isinstance(node, ast.Builtin) and node.name == "comm":
        # Zero-padded: whole words can be compared.
        wanted = wanted.ljust(-(-len(wanted) // 8) * 8, b"\0")
    b = g.b
    for at, width in chunks(len(wanted), place.offset):
        following = b.block("equal")
        number = int.from_bytes(wanted[at : at + width], "little")
        have = b.load(place.ptr, place.offset + at, width)
        b.branch(b.compare("eq", have, number), following, differ)
        b.at(following)
    b.jump(same)


def _branch_bytes(g: Gen, x: Place, y: Place, size: int, same: Block, differ: Block) -> None:
    b = g.b
    for at, width in chunks(size, x.offset, y.offset):
        following = b.block("equal")
        one, other = b.load(x.ptr, x.offset + at, width), b.load(y.ptr, y.offset + at, width)
        b.branch(b.compare("eq", one, other), following, differ)
        b.at(following)
    b.jump(same)


def _branch_strings(g: Gen, x: Place, y: Place, size: int, same: Block, differ: Block) -> None:
    """Byte by byte to the first difference, NUL, or the end of the shorter object."""
    b = g.b
    i = b.local("i")
    head, body, more, after = b.block("bytes"), b.block("byte"), b.block("same"), b.block("next")
    b.set(i, b.const(0))
    b.jump(head)
    b.at(head)
    b.branch(b.compare("ult", b.get(i), size), body, same)
    b.at(body)
    one = b.load(b.binary("add", x.ptr, b.get(i)), x.offset, 1)
    other = b.load(b.binary("add", y.ptr, b.get(i)), y.offset, 1)
    b.branch(b.compare("eq", one, other), more, differ)
    b.at(more)
    b.branch(one, after, same)
    b.at(after)
    b.set(i, b.binary("add", b.get(i), 1))
    b.jump(head)


def _text_argument(a: Analyser, node: ast.Call, index: int) -> Type:
    """The type of an argument that has to be a string or byte array."""
    argument = node.arguments[index]
    t = a.value(argument)
    if t.kind not in ("unknown", "string", "array", "buffer"):
        hint = "read it with str()" if t.kind in ("pointer", "int") else None
        return a.error(
            f"{node.name}() only supports string arguments ({display(t)} provided)", argument.span, hint
        )
    return t


def _check_strncmp(a: Analyser, node: ast.Call) -> Type:
    x, y = _text_argument(a, node, 0), _text_argument(a, node, 1)
    a.integer(node.arguments[2], "strncmp()'s count")
    count = a.constant(node.arguments[2])
    if "unknown" in (x.kind, y.kind):
        return UNKNOWN
    if not isinstance(count, int) or count < 0:
        return a.error("strncmp(): the count must be a literal that is not negative", node.arguments[2].span)
    return UINT64


def _emit_strncmp(g: Gen, node: ast.Call) -> Value:
    b = g.b
    left, right = node.arguments[:2]
    count = g.analyser.constant(node.arguments[2])
    assert isinstance(count, int)
    same, differ, done = b.block("same"), b.block("differ"), b.block("compared")
    done_with = False
    for literal, other in ((right, left), (left, right)):
        data = _literal(g, literal)
        if data is not None:
            branch_literal(g, other, data, same, differ, None if count > len(data) else count)
            done_with = True
            break
    if not done_with:
        size = min(count, type_of(left).size, type_of(right).size)
        _branch_strings(g, local_place(g, left), local_place(g, right), size, same, differ)
    result = b.local("difference")
    for block, number in ((same, 0), (differ, 1)):
        b.at(block)
        b.set(result, b.const(number))
        b.jump(done)
    b.at(done)
    return b.get(result)


def _check_memcmp(a: Analyser, node: ast.Call) -> Type:
    for index in (0, 1):
        a.value(node.arguments[index])
    a.integer(node.arguments[2], "memcmp()'s count")
    if not isinstance(a.constant(node.arguments[2]), int):
        return a.error("memcmp(): the count must be a literal", node.arguments[2].span)
    return INT64


def _emit_memcmp(g: Gen, node: ast.Call) -> Value:
    b = g.b
    left, right = node.arguments[:2]
    count = g.analyser.constant(node.arguments[2])
    assert isinstance(count, int)
    size = min(count, type_of(left).size, type_of(right).size)
    x, y = local_place(g, left), local_place(g, right)
    result, i = b.local("difference"), b.local("i")
    head, body, after, done = b.block("bytes"), b.block("byte"), b.block("next"), b.block("compared")
    b.set(result, b.const(0))
    b.set(i, b.const(0))
    b.jump(head)
    b.at(head)
    b.branch(b.compare("ult", b.get(i), size), body, done)
    b.at(body)
    one = b.load(b.binary("add", x.ptr, b.get(i)), x.offset, 1)
    other = b.load(b.binary("add", y.ptr, b.get(i)), y.offset, 1)
    b.set(result, b.binary("sub", one, other))
    b.branch(b.get(result), done, after)
    b.at(after)
    b.set(i, b.binary("add", b.get(i), 1))
    b.jump(head)
    b.at(done)
    return b.get(result)


# --- searching ------------------------------------------------------------------------------------


def _check_search(a: Analyser, node: ast.Call) -> Type:
    x, y = _text_argument(a, node, 0), _text_argument(a, node, 1)
    if "unknown" in (x.kind, y.kind):
        return UNKNOWN
    if x.size * y.size > 1 << 16 and a.constant(node.arguments[1]) is None:
        return a.error(
            f"{node.name}(): the strings are too long ({x.size} and {y.size} bytes) to search in one another",
            node.span,
            "read less of them: str(pointer, 64)",
        )
    return BOOL if node.name == "strcontains" else INT64


def _find(g: Gen, node: ast.Call) -> Value:
    """The index of the needle's first occurrence, -1 when there is none."""
    b = g.b
    hay, needle = node.arguments
    x = local_place(g, hay)
    size = type_of(hay).size
    data = _literal(g, needle)
    y = None if data is not None else local_place(g, needle)
    most = size - len(data) if data is not None else size
    i, result = b.local("i"), b.local("found")
    head, body, after, done = b.block("search"), b.block("here"), b.block("next"), b.block("searched")
    hit = b.block("hit")
    b.set(i, b.const(0))
    b.set(result, b.const(-1))
    b.jump(head)
    b.at(head)
    b.branch(b.compare("slt", b.get(i), most), body, done)
    b.at(body)
    at = b.binary("add", x.ptr, b.get(i))
    if data is not None:
        # Byte by byte: the place is not aligned, which the stack insists on.
        for offset, byte in enumerate(data):
            following = b.block("equal")
            have = b.load(at, x.offset + offset, 1)
            b.branch(b.compare("eq", have, byte), following, _miss(g, have, after, done))
            b.at(following)
        b.jump(hit)
    else:
        assert y is not None
        _match_here(g, x, y, size, type_of(needle).size, b.get(i), hit, after, done)
    b.at(hit)
    b.set(result, b.get(i))
    b.jump(done)
    b.at(after)
    b.set(i, b.binary("add", b.get(i), 1))
    b.jump(head)
    b.at(done)
    return b.get(result)


def _miss(g: Gen, have: Value, after: Block, done: Block) -> Block:
    """Where to go on after a byte that differs: the search ends with the string."""
    b = g.b
    here, block = b.current, b.block("miss")
    b.at(block)
    b.branch(have, after, done)
    b.at(here)
    return block


def _match_here(
    g: Gen, x: Place, y: Place, size: int, length: int, start: Value, hit: Block, miss: Block, done: Block
) -> None:
    """Compare the needle in memory with the string from ``start`` on."""
    b = g.b
    j = b.local("j")
    head, inside, body, more, after = (b.block(n) for n in ("needle", "inside", "byte", "more", "step"))
    b.set(j, b.const(0))
    b.jump(head)
    b.at(head)
    b.branch(b.compare("ult", b.get(j), length), inside, hit)
    b.at(inside)
    wanted = b.load(b.binary("add", y.ptr, b.get(j)), y.offset, 1)
    b.branch(wanted, body, hit)
    b.at(body)
    index = b.binary("add", start, b.get(j))
    fits = b.block("fits")
    b.branch(b.compare("ult", index, size), fits, done)
    b.at(fits)
    have = b.load(b.binary("add", x.ptr, index), x.offset, 1)
    b.branch(b.compare("eq", have, wanted), after, more)
    b.at(more)
    b.branch(have, miss, done)
    b.at(after)
    b.set(j, b.binary("add", b.get(j), 1))
    b.jump(head)


def _emit_search(g: Gen, node: ast.Call) -> Value:
    found = _find(g, node)
    return g.b.compare("sge", found, 0) if node.name == "strcontains" else found


def _check_strlen(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    if t.kind not in ("unknown", "string", "array", "pointer"):
        return a.error(f"{node.name}() expects a string ({display(t)} provided)", node.arguments[0].span)
    return UINT64


def _emit_strlen(g: Gen, node: ast.Call) -> Value:
    b = g.b
    first = node.arguments[0]
    t = type_of(first)
    if t.kind == "pointer":
        size = g.analyser.options.max_strlen
        ptr = b.alloca(size, 8)
        got = b.helper(f"probe_read_{t.name or g.group.address_space}_str", ptr, size, g.value(first))
        # The helper counts the NUL; a fault has no length.
        return b.select(b.compare("sgt", got, 0), b.binary("sub", got, 1), 0)
    place = local_place(g, first)
    i = b.local("length")
    head, body, after, done = b.block("bytes"), b.block("byte"), b.block("next"), b.block("end")
    b.set(i, b.const(0))
    b.jump(head)
    b.at(head)
    b.branch(b.compare("ult", b.get(i), t.size), body, done)
    b.at(body)
    b.branch(b.load(b.binary("add", place.ptr, b.get(i)), place.offset, 1), after, done)
    b.at(after)
    b.set(i, b.binary("add", b.get(i), 1))
    b.jump(head)
    b.at(done)
    return b.get(i)


def _strcap_constant(a: Analyser, node: ast.Call) -> int:
    t = type_of(node.arguments[0])
    return a.options.max_strlen if t.kind == "pointer" else t.size


def _check_bswap(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    if t.kind == "unknown":
        return t
    if not is_number(t):
        return a.error(
            f"bswap() only supports integer arguments ({display(t)} provided)", node.arguments[0].span
        )
    return Type("int", as_integer(t).size)


def _emit_bswap(g: Gen, node: ast.Call) -> Value:
    size = type_of(node).size
    value = g.value(node.arguments[0])
    return value if size == 1 else g.b.unary(f"bswap{8 * size}", value)


FUNCTIONS = table(
    Function("str", 1, 2, _check_str, into=_str_into, constant=_str_constant, usage="str(pointer[, length])"),
    Function("buf", 1, 2, _check_buf, into=_buf_into, usage="buf(pointer, length) or buf(array)"),
    Function("strncmp", 3, 3, _check_strncmp, _emit_strncmp, usage="strncmp(string, string, count)"),
    Function("memcmp", 3, 3, _check_memcmp, _emit_memcmp, usage="memcmp(left, right, count)"),
    Function("strcontains", 2, 2, _check_search, _emit_search, usage="strcontains(haystack, needle)"),
    Function("strstr", 2, 2, _check_search, _emit_search, usage="strstr(haystack, needle)"),
    Function("strlen", 1, 1, _check_strlen, _emit_strlen, usage="strlen(string)"),
    Function("strcap", 1, 1, _check_strlen, constant=_strcap_constant, usage="strcap(string)"),
    Function("bswap", 1, 1, _check_bswap, _emit_bswap, usage="bswap(n)"),
)
