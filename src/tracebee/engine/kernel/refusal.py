"""A verifier's refusal for people: the script line with a caret, the cause, what was known, what to change.

The log's last complaint is looked up in a table of what the verifier says and what that means in a script.
"""

from __future__ import annotations

import re

from tracebee.errors import VerifierError
from tracebee.obj.image import build_image
from tracebee.source import Source, Span
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.obj.image import Image
    from tracebee.obj.model import LineInfo, Object

_INSN = re.compile(r"^(\d+): \([0-9a-f]{2}\) ")
_REGISTER = re.compile(r"\bR(\d+)\b")
_STATE = re.compile(r"\bR(\d+)(?:_[rw]+)?=(\S+?)(?=\s|$)")


class Meaning(NamedTuple):
    """What a complaint means, and what to do about it."""

    pattern: re.Pattern[str]
    cause: str
    advice: str


def _row(pattern: str, cause: str, advice: str) -> Meaning:
    return Meaning(re.compile(pattern), cause, advice)


MEANINGS = (
    _row(
        r"invalid mem access 'scalar'|invalid mem access 'inv'",
        "memory is read through a number that the kernel does not know to be a pointer",
        "cast it to a pointer to a kernel struct, or read it with kptr() or uptr()",
    ),
    _row(
        r"invalid mem access 'map_value_or_null'|invalid mem access '(ptr_|trusted_ptr_|mem_)?or_null",
        "a value is used that may not be there",
        "check that it is not 0 first",
    ),
    _row(
        r"(min|max) value is (outside of|negative)|invalid access to (map value|memory|stack)|out of bounds"
        r"|unbounded memory access",
        "an access may fall outside of its object: the kernel knows no bound for an index or a size",
        "compare the index with the size first, or mask it with &",
    ),
    _row(
        r"invalid bpf_context access",
        "this probe's context has nothing readable there",
        "the field does not exist for this kind of probe on this kernel",
    ),
    _row(
        r"(unknown func|helper call is not allowed|cannot use helper|program of this type cannot use helper)",
        "a function that this kind of probe may not call on this kernel",
        "'tracebee feature' lists which functions each program type may call",
    ),
    _row(
        r"cannot call GPL-restricted function",
        "a function that only GPL programs may call",
        'set config = { license = "GPL" }',
    ),
    _row(
        r"(BPF program is too large|processed \d+ insns?\s*\(limit)|too complex|The sequence of \d+ jumps",
        "the program is too complex: the kernel gave up following all its paths",
        "make loops shorter, or split the probe's work",
    ),
    _row(
        r"back-edge|infinite loop detected|loop detected",
        "the kernel cannot prove that a loop ends",
        "bound the loop by a constant",
    ),
    _row(
        r"BPF_STX uses reserved fields",
        "an atomic operation that returns the old value, which kernels have since 5.12",
        "stacks as keys, and the value of ++ and -- on maps, need it: do without them on this kernel",
    ),
    _row(
        r"combined stack size|stack depth",
        "the program needs more than the 512 bytes of stack that there are",
        "use fewer or smaller variables in one probe",
    ),
    _row(
        r"R\d+ !read_ok|uninitialized|invalid (indirect )?read from stack",
        "a value is used that was never set on some path",
        "set the variable before the if or loop",
    ),
    _row(
        r"pointer arithmetic .* prohibited|R\d+ (tried to|invalid) .* pointer|math between .* pointer",
        "arithmetic that the kernel does not allow on a pointer",
        "cast the pointer to an integer first",
    ),
    _row(r"dereference of modified ctx", "a computed address in the probe's context", "use args instead"),
    _row(
        r"(missing btf func_info|invalid BTF|btf_vmlinux is malformed)",
        "the kernel does not take the program's type information",
        "this is a defect of tracebee or of the kernel's BTF; please report it with the output of -v",
    ),
)


def explain_program(error: VerifierError, obj: Object) -> VerifierError:
    """The error about one of an object's programs, for people; itself when it is not about one."""
    for program in obj.programs:
        if program.name == error.program:
            return explain(error, build_image(obj, program))
    return error


def explain(error: VerifierError, image: Image) -> VerifierError:
    """The same error with a message that a person can use; ``log`` stays the whole text."""
    complaint = _complaint(error.log)
    meaning = next((m for m in MEANINGS if m.pattern.search(complaint)), None)
    line = line_at(image, last_slot(error.log))
    parts = []
    cause = meaning.cause if meaning else "the kernel's verifier refused the program"
    if line is not None:
        parts.append(at_line(line, cause))
    else:
        parts.append(f"{image.functions[0][1].name}: {cause}")
    parts.append(f"  verifier: {complaint}")
    known = _known(error.log, complaint)
    if known:
        parts.append(f"  known: {known}")
    hint = meaning.advice if meaning else "run with -v to see the verifier's whole log"
    return VerifierError(
        error.call, error.errno, "\n".join(parts), error.log, hint=hint, program=error.program
    )


_NOISE = (
    *("processed ", "verification time", "stack depth", "mark_precise", "insns_total", "peak_states"),
    *("cur state:", "old state:"),
)


def _complaint(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith(_NOISE)]
    if log.startswith("processed") or not lines:
        return log.strip().splitlines()[0] if log.strip() else "no reason given"
    last = lines[-1]
    # Some complaints go on over a second line that says nothing new of its own.
    if last.startswith((" ", "R")) and len(last.split()) < 3 and len(lines) > 1:
        last = f"{lines[-2]} {last.strip()}"
    return last.strip()


def at_line(line: LineInfo, message: str) -> str:
    """``file:line:column: error: message``, with the line and a caret."""
    place = Span(line.line, line.column, line.line, _end(line))
    source = Source(line.file, "\n" * (line.line - 1) + line.text)
    return f"{line.file}:{line.line}:{line.column}: error: {message}\n{source.excerpt(place)}"


def last_slot(log: str) -> int | None:
    """The instruction that a log ends with."""
    for line in reversed(log.splitlines()):
        match = _INSN.match(line)
        if match:
            return int(match[1])
    return None


def line_at(image: Image, slot: int | None) -> LineInfo | None:
    """The source line that the instruction of a slot comes from."""
    if slot is None:
        return None
    found = None
    for line in image.lines:
        if image.slots[line.at] > slot:
            break
        found = line
    return found


def _end(line: LineInfo) -> int:
    # A line's information has no end: the word or call that starts there is what the caret marks.
    rest = line.text[line.column - 1 :]
    match = re.match(r"[$@\w.]+(?:->\w+|\[[^\]]*\])*(?:\([^()]*\))?", rest)
    return line.column + (len(match[0]) if match else 1)


def _known(log: str, complaint: str) -> str:
    register = _REGISTER.search(complaint)
    if register is None:
        return ""
    for line in reversed(log.splitlines()):
        for match in _STATE.finditer(line):
            if match[1] == register[1]:
                return f"R{match[1]} is {match[2]}"
    return ""
