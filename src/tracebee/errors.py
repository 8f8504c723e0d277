"""Every error tracebee raises.

::

    TracebeeError
     ├── SourceError        the script is wrong: carries a span, a message, a hint
     ├── EncodeError        an instruction, type or record does not fit its encoding
     ├── DecodeError        bytes that are not what they should be (BTF, ELF, bytecode)
     ├── KernelError        a system call failed: command, errno, meaning, verifier log
     │    └── VerifierError the kernel's verifier refused a program
     ├── UnsupportedError   this kernel or engine lacks something; says what, and the way out
     ├── PrivilegeError     a capability or setting is missing; names it
     ├── SymbolError        a function, library, probe or field cannot be found; carries candidates
     ├── ProgramFaultError  a BPF program did, in the VM, what a verifier is there to prevent
     └── UsageError         a command-line argument is wrong
"""

from __future__ import annotations

from tracebee.source import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.source import Source, Span


class TracebeeError(Exception):
    """Base of all errors tracebee raises on purpose.

    :param message: one sentence, lower case, without a full stop.
    :param hint: what the user can do about it, or None.

    ``program`` names the BPF program that it is about, if it is about one.
    """

    program = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def place(self, source: Source, span: Span) -> None:
        """Let the message begin with a place of the script and show its line, unless it names one already."""
        if span != NOWHERE and ": error: " not in self.message:
            excerpt = f"\n{source.excerpt(span)}" if source.text else ""
            self.message = f"{source.place(span)}: error: {self.message}{excerpt}"

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"


class Diagnostic(TracebeeError):  # noqa: N818 - the compilers' word for it
    """One finding about a script at a place; ``severity`` is ``error`` or ``warning``.

    ``source`` is the text that the span is of, where a script has imported or included others.
    """

    source: Source | None = None

    def __init__(
        self, message: str, span: Span = NOWHERE, *, hint: str | None = None, severity: str = "error"
    ) -> None:
        super().__init__(message, hint=hint)
        self.span = span
        self.severity = severity

    def render(self, source: Source) -> str:
        """The finding as ``name:line:col: error: ...`` with the source line and a caret."""
        source = self.source or source
        if self.span == NOWHERE:
            head = f"{source.name}: {self.severity}: {self.message}"
        else:
            head = f"{source.place(self.span)}: {self.severity}: {self.message}\n{source.excerpt(self.span)}"
        return head if self.hint is None else f"{head}\n  hint: {self.hint}"


class MissingProbe(Diagnostic):
    """An attach point is well formed, but nothing on this machine is called so.

    It is apart from other findings because another attach point of its probe may do, and because
    config ``missing_probes`` may let it pass.
    """


class SourceError(TracebeeError):
    """A script that cannot be compiled: one or more diagnostics against one source."""

    def __init__(self, source: Source, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("\n".join(d.render(source) for d in diagnostics))
        self.source = source
        self.diagnostics = tuple(diagnostics)


class EncodeError(TracebeeError):
    """A value does not fit the field that should hold it."""


class DecodeError(TracebeeError):
    """Bytes are not a valid encoding of what was to be read."""


class KernelError(TracebeeError):
    """A system call failed.

    :param call: the call as the manual names it, for example ``bpf(BPF_PROG_LOAD)``.
    :param errno: the positive error number.
    """

    def __init__(self, call: str, errno: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.call = call
        self.errno = errno


class VerifierError(KernelError):
    """A verifier refused a program; ``log`` is its whole text, ``program`` the program's name."""

    def __init__(
        self, call: str, errno: int, message: str, log: str, *, hint: str | None = None, program: str = ""
    ) -> None:
        super().__init__(call, errno, message, hint=hint)
        self.log = log
        self.program = program


class UnsupportedError(TracebeeError):
    """The kernel, engine or architecture lacks what was asked for."""


class PrivilegeError(TracebeeError):
    """A capability, or a setting such as perf_event_paranoid, stands in the way."""


class SymbolError(TracebeeError):
    """A name cannot be found. ``candidates`` are the nearest names that exist."""

    def __init__(self, message: str, candidates: Sequence[str] = (), *, hint: str | None = None) -> None:
        if hint is None and candidates:
            hint = "did you mean " + " or ".join(f"'{c}'" for c in candidates[:3]) + "?"
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)


class ProgramFaultError(TracebeeError):
    """A BPF program did what a verifier is there to prevent, or hit a limit of the VM.

    :param slot: the slot of the instruction, None when the fault was found before it ran.
    :param address: the address accessed, where there was one.
    """

    def __init__(
        self, message: str, *, slot: int | None = None, address: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.slot = slot
        self.address = address


class UsageError(TracebeeError):
    """A command-line argument is wrong or missing."""
