"""Resolving the attach points of a script: the language's ProbeProvider, for one machine and process."""

from __future__ import annotations

from tracebee.errors import Diagnostic, MissingProbe
from tracebee.lang.script import Target
from tracebee.probes.kinds import module_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.lang.ast import AttachPoint
    from tracebee.probes.group import Group
    from tracebee.probes.machine import Machine


class Provider:
    """Expands attach points by the module of their kind and numbers what they match.

    :param machine: where to look.
    :param missing: what becomes of a point that matches nothing: ``error``, ``warn``, ``ignore``, or
        None to leave it to the caller.
    :param max_probes: how many targets a script may have altogether.
    """

    def __init__(self, machine: Machine, *, missing: str | None = None, max_probes: int = 1024) -> None:
        self.machine = machine
        self.missing = missing
        self.max_probes = max_probes
        self._count = 0

    def groups(self, point: AttachPoint, *, first_cookie: int, uses: frozenset[str]) -> Sequence[Group]:
        """Groups of targets with cookies from ``first_cookie`` on, one number for each distinct name.

        :raises MissingProbe: nothing matches, and that was left to the caller.
        :raises Diagnostic: unknown kind, malformed point, nothing matches, or too many do.
        """
        module = module_of(point.parts[0])
        try:
            groups: list[Group] = module.expand(point, self.machine, uses)
        except MissingProbe as missing:
            if self.missing is None:
                raise
            if self.missing == "error":
                raise Diagnostic(missing.message, hint=missing.hint) from None
            if self.missing == "warn":
                self.machine.warn(missing.message)
            return []
        self._count += sum(len(group.wanted) for group in groups)
        if self._count > self.max_probes:
            raise Diagnostic(
                f"'{point.text}' brings the script to {self._count} probes, more than max_probes allows "
                f"({self.max_probes})",
                hint=f"narrow the pattern, or set BPFTRACE_MAX_PROBES={self._count} or config max_probes",
            )
        numbers: dict[str, int] = {}
        for group in groups:
            group.targets = [
                Target(name, numbers.setdefault(name, first_cookie + len(numbers)), spec)
                for name, spec in group.wanted
            ]
        return groups
