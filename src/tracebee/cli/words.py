"""The grammar of the administration commands: words, as in ``prog dump xlated id 7``, and a few options."""

from __future__ import annotations

from tracebee.errors import TracebeeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SWITCHES = {
    "-j": "json",
    "--json": "json",
    "-p": "pretty",
    "--pretty": "pretty",
    "-f": "bpffs",
    "--bpffs": "bpffs",
    "-d": "debug",
    "--debug": "debug",
    "-h": "help",
    "--help": "help",
    "-n": "nomount",
    "--nomount": "nomount",
    # bpftool's, which makes no difference here: old map definitions are always taken.
    "-m": "mapcompat",
    "--mapcompat": "mapcompat",
}

# Options that a word follows.
_VALUES = ("-B", "--base-btf")


# bpftool's words for network cards that run programs themselves.
_DEVICES = frozenset(("dev", "offload_dev", "xdpmeta_dev"))


class Words:
    """The words of a command line, taken one after the other; options may stand anywhere.

    :ivar json: answer in JSON; ``pretty`` indented.
    :ivar bpffs: say where objects are pinned.
    :ivar nomount: mount nothing.
    :ivar debug: ask the verifier for its log.
    :ivar base: a file with the types that split ones continue; empty when none is named.
    """

    def __init__(self, argv: Sequence[str], usage: str) -> None:
        # The usage's third word is the command's name.
        self.hint = f"see 'tracebee {usage.split()[2]} help'"
        words = [part for word in argv for part in _apart(word)]
        values = {name: self._value(words, name) for name in _VALUES}
        self.base = values["-B"] or values["--base-btf"]
        switches = {_SWITCHES[word] for word in words if word in _SWITCHES}
        self.json = bool(switches & {"json", "pretty"})
        self.pretty = "pretty" in switches
        self.bpffs = "bpffs" in switches
        self.debug = "debug" in switches
        self.nomount = "nomount" in switches
        self.help = "help" in switches
        self._words = [word for word in words if word not in _SWITCHES]

    def _value(self, words: list[str], option: str) -> str:
        """Take an option and its value out of ``words``; empty when it is not there."""
        if option not in words:
            return ""
        at = words.index(option)
        if at + 1 == len(words):
            raise UsageError(f"expected a value after {option}", hint=self.hint)
        del words[at]
        return words.pop(at)

    def __bool__(self) -> bool:
        return bool(self._words)

    def peek(self) -> str:
        """The next word, which stays; empty at the end."""
        return self._words[0] if self._words else ""

    def next(self, what: str) -> str:
        """Take the next word.

        :param what: what it should be, for the error.
        :raises UsageError: there is none.
        """
        if not self._words:
            raise UsageError(f"expected {what} at the end of the command", hint=self.hint)
        return self._words.pop(0)

    def number(self, what: str) -> int:
        """Take a number, decimal or with 0x.

        :raises UsageError: the next word is none.
        """
        word = self.next(what)
        try:
            number = int(word, 0)
        except ValueError:
            raise UsageError(f"expected {what}, not '{word}'", hint=self.hint) from None
        if not 0 <= number < 1 << 32:
            raise UsageError(f"{word} is no number of 32 bits", hint=self.hint)
        return number

    def accept(self, *names: str) -> str:
        """Take the next word if it is one of these; empty if not."""
        return self._words.pop(0) if self._words and self._words[0] in names else ""

    def expect(self, name: str) -> None:
        """Take a keyword.

        :raises UsageError: the next word is another.
        """
        if not self.accept(name):
            where = f"instead of '{self.peek()}'" if self else "at the end of the command"
            raise UsageError(f"expected '{name}' {where}", hint=self.hint)

    def rest(self) -> list[str]:
        """Take all words that are left."""
        words, self._words = self._words, []
        return words

    def unexpected(self, word: str) -> UsageError:
        """The error for a word that has been taken, and is not one of those that can stand here."""
        if word in _DEVICES:
            return UsageError(f"'{word}': nothing is loaded into network cards here")
        return UsageError(f"'{word}' is not expected here", hint=self.hint)

    def end(self) -> None:
        """Say that nothing more may come.

        :raises UsageError: something does.
        """
        if self._words:
            raise self.unexpected(self._words[0])

    def print_json(self, answer: object) -> int:
        """Print a command's answer as JSON, indented if the options ask for it; the exit code of success."""
        from tracebee.report.inspect.output import json_text

        print(json_text(answer, pretty=self.pretty))
        return 0

    def choice(self, *kinds: str) -> tuple[str, str]:
        """Take an object's description: ``id N``, ``name X`` and so on; or just a number or a path.

        :param kinds: which of ``id``, ``name``, ``tag`` and ``pinned`` there are.
        :raises UsageError: it is none.
        """
        kind = self.accept(*kinds)
        word = self.next("one of " + ", ".join(kinds))
        if not kind:
            if not word.isdigit() and "/" not in word:
                raise UsageError(f"expected one of {', '.join(kinds)} instead of '{word}'", hint=self.hint)
            kind = "id" if word.isdigit() else "pinned"
        if kind == "id" and not word.isdecimal():
            raise UsageError(f"expected a number after 'id', not '{word}'", hint=self.hint)
        if kind == "id" and int(word) >= 1 << 32:
            raise UsageError(f"{word} is too large for an id", hint=self.hint)
        return kind, word


def _apart(word: str) -> list[str]:
    """``-fj`` as ``-f`` and ``-j``; any other word as it is."""
    letters = [f"-{letter}" for letter in word[1:]]
    return letters if word[:1] == "-" and letters and all(one in _SWITCHES for one in letters) else [word]


def dispatch(argv: Sequence[str], commands: Mapping[str, Callable[[Words], int]], usage: str) -> int:
    """Run the command the first word names, or the table's first without words; the exit code.

    With ``-j``, a failure is an object with ``error`` and perhaps ``hint`` on standard output, as in bpftool.

    :raises UsageError: there is no such command; with the nearest.
    """
    words = Words(argv, usage)
    if words.help or words.accept("help"):
        print(usage)
        return 0
    name = words.next("a command") if words else next(iter(commands))
    # As bpftool has it, the beginning of a command's name will do.
    found = name if name in commands else next((full for full in commands if full.startswith(name)), None)
    try:
        if found is None:
            from tracebee.suggest import did_you_mean

            hint = did_you_mean(name, commands, count=1) or words.hint
            raise UsageError(f"there is no command '{name}'", hint=hint)
        return commands[found](words)
    except (TracebeeError, OSError) as error:
        if not words.json or isinstance(error, BrokenPipeError):
            raise
        return _fail(words, error)


def _fail(words: Words, error: TracebeeError | OSError) -> int:
    """Who reads JSON gets errors as JSON too."""
    if isinstance(error, OSError):
        record = {"error": f"{error.filename}: {error.strerror}" if error.filename else str(error)}
    else:
        record = {"error": error.message}
        if error.hint is not None:
            record["hint"] = error.hint
    words.print_json(record)
    return 1
