"""From a syntax tree to a compiled script: expand probes, analyse, lower, and describe the result."""

from __future__ import annotations

from tracebee.errors import Diagnostic, MissingProbe, SourceError
from tracebee.lang import analyse_expressions, ast, lower_statements  # noqa: F401 - they fill the tables by node
from tracebee.lang.analyse import Analyser, signature_of
from tracebee.lang.lower import Gen
from tracebee.lang.records import Records
from tracebee.lang.script import SCALARS, Attachment, MapInfo, Script
from tracebee.lang.unify import is_scalar
from tracebee.lang.unit import Unit, is_aggregation, map_name
from tracebee.source import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.lang.options import Options
    from tracebee.lang.probe_api import ProbeGroup, ProbeProvider
    from tracebee.lang.records import Definitions
    from tracebee.source import Source

    Work = list[tuple[ast.Probe, list[ProbeGroup]]]


def compile_script(
    source: Source,
    program: ast.Program,
    provider: ProbeProvider,
    btf: Callable[[], Btf],
    *,
    options: Options,
    definitions: Definitions | None = None,
) -> Script:
    """Compile a parsed script.

    :param program: macros expanded and imports read.
    :param btf: gives the kernel's types; called only when the script needs one.
    :param definitions: the script's own C types.
    :raises SourceError: with every error found. Warnings go to ``options.warn``.
    """
    unit = Unit(source)
    work, names = _expand(source, program, provider, options.warn)
    analyser = Analyser(Records(btf, definitions), options)
    _declare_maps(analyser, program)
    analyser.run(work)
    _raise_errors(source, analyser.diagnostics)
    if options.warn is not None:
        for finding in analyser.diagnostics:
            options.warn(finding)
    programs = _lower(unit, analyser, work)
    from tracebee.lang.assemble import assemble

    infos = map_infos(unit, analyser)
    obj = assemble(unit, analyser, programs)
    return Script(
        obj,
        tuple(Attachment(f.name, group.kind, tuple(group.targets), group.span) for f, group in programs),
        tuple(unit.actions),
        infos,
        tuple(names),
        tuple(analyser.strings),
        _config(options, unit),
        tuple(unit.lost),
        source,
    )


def _expand(
    source: Source,
    program: ast.Program,
    provider: ProbeProvider,
    warn: Callable[[Diagnostic], None] | None,
) -> tuple[Work, list[str]]:
    """The groups of every probe, and the probe names by cookie.

    A probe that lists several attach points, as scripts do for a function that has had two names,
    needs one that exists; the others are warned of.
    """
    work: Work = []
    names: list[str] = []
    errors = [
        Diagnostic(f"function '{f.name}': functions are not supported", f.span, hint="write it as a macro")
        for f in program.of(ast.Subprogram)
    ]
    for probe in program.of(ast.Probe):
        used = frozenset(uses(probe))
        groups: list[ProbeGroup] = []
        absent: list[Diagnostic] = []
        for point in probe.points:
            try:
                found = provider.groups(point, first_cookie=len(names), uses=used)
            except Diagnostic as wrong:
                if wrong.span == NOWHERE:
                    wrong.span = point.span
                (absent if isinstance(wrong, MissingProbe) else errors).append(wrong)
                continue
            groups.extend(found)
            for group in found:
                group.span = point.span
                for target in group.targets:
                    names.extend([""] * (target.cookie + 1 - len(names)))
                    names[target.cookie] = target.probe
        if not groups:
            errors += absent
        elif warn is not None:
            for finding in absent:
                warn(Diagnostic(f"{finding.message}: skipped", finding.span, severity="warning"))
        work.append((probe, groups))
    if not errors and not any(groups for _, groups in work):
        # The kernel's own words for a program-less script would be about type information.
        none = "none of the script's probes exists here" if work else "the script has no probe"
        errors.append(Diagnostic(none, hint="write PROBE { ... }, for example BEGIN { print(1) }"))
    _raise_errors(source, errors)
    return work, names


def uses(node: ast.Node) -> set[str]:
    """Names of the builtins and functions below a node; ``arg`` and ``sarg`` for the numbered ones."""
    found: set[str] = set()
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, (ast.Builtin, ast.Call)):
            found.add(here.name.rstrip("0123456789") if here.name[-1:].isdigit() else here.name)
        stack.extend(here.children())
    return found


def _declare_maps(analyser: Analyser, program: ast.Program) -> None:
    for declaration in program.of(ast.MapDecl):
        analyser.map(declaration.map).declared = declaration


def _raise_errors(source: Source, diagnostics: Sequence[Diagnostic]) -> None:
    errors = [d for d in diagnostics if d.severity == "error"]
    if errors:
        unique = {(d.span, d.message): d for d in errors}
        raise SourceError(source, list(unique.values()))


def _lower(unit: Unit, analyser: Analyser, work: Work) -> list[tuple[Any, ProbeGroup]]:
    """The IR function of every group."""
    programs = []
    errors: list[Diagnostic] = []
    names: dict[str, int] = {}
    if analyser.options.lasting and any(uses(probe) & {"exit", "assert"} for probe, _ in work):
        unit.stop_slot()
    for probe, groups in work:
        signatures = {signature_of(group) for group in groups}
        for group in groups:
            if len(signatures) > 1:
                # The tree holds the types of the group that was analysed last.
                analyser.probe_for(probe, group)
            number = names.get(group.kind, 0)
            names[group.kind] = number + 1
            function = unit.module.function(f"{group.kind}_{number}" if number else group.kind)
            gen = Gen(unit, analyser, group, function)
            try:
                program(gen, probe)
            except Diagnostic as wrong:
                if wrong.span == NOWHERE:
                    wrong.span = probe.span
                errors.append(wrong)
            programs.append((function, group))
    _raise_errors(unit.source, errors)
    return programs


def program(g: Gen, probe: ast.Probe) -> None:
    """One probe as one function: predicate, then body."""
    from tracebee.lang.lower_expressions import branch
    from tracebee.lang.lower_maps import branch_on_entry

    b = g.b
    if any(state.iterated for state in g.analyser.maps.values()):
        from tracebee.lang.lower_for_map import open_frame

        open_frame(g, probe)
    if g.unit.stop_offset >= 0 and g.group.kind != "end":
        stopped, go = b.block("stopped"), b.block("go")
        b.branch(b.load(b.data_ref(SCALARS, g.unit.stop_offset), 0, 8), stopped, go)
        b.at(stopped)
        b.ret(0)
        b.at(go)
    guard = g.group.emit_guard(b, g.ctx)
    if guard is not None:
        run, leave = b.block("run"), b.block("leave")
        b.branch(guard, run, leave)
        b.at(leave)
        b.ret(0)
        b.at(run)
    if probe.predicate is not None:
        body, skip = b.block("body"), b.block("skip")
        predicate = probe.predicate
        if isinstance(predicate, ast.MapAccess) and is_scalar(g.map_state(predicate).value):
            branch_on_entry(g, predicate, body, skip)
        else:
            branch(g, predicate, body, skip)
        b.at(skip)
        b.ret(0)
        b.at(body)
    g.statements(probe.body.statements)
    b.ret(0)


def map_infos(unit: Unit, analyser: Analyser) -> tuple[MapInfo, ...]:
    """How the script's maps print, in the order in which they are printed: by name."""
    from tracebee.lang.events import printable

    infos = []
    for name in sorted(analyser.maps):
        state = analyser.maps[name]
        if state.value.kind == "unknown":
            continue
        value = state.value if is_aggregation(state) else printable(analyser, state.value)
        if state.keyed:
            infos.append(MapInfo(f"@{name}", map_name(name), printable(analyser, state.key), value))
        elif is_aggregation(state):
            infos.append(MapInfo(f"@{name}", map_name(name), None, value))
        else:
            infos.append(MapInfo(f"@{name}", SCALARS, None, value, unit.slot(state)))
    return tuple(infos)


def _config(options: Options, unit: Unit) -> dict[str, Any]:
    """The settings; which numbers of its machine a runner writes where; where exit() says that it ran."""
    values = [[offset, *what] for what, offset in unit.machine_values.items()]
    return {**options.config, "machine_values": values, "stop_offset": unit.stop_offset}
