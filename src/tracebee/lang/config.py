"""Configuration variables: their names, values and defaults, in a script or the environment.

One row each; a name may be written as in the environment (``BPFTRACE_MAX_STRLEN``), in upper case
or plain. Source: bpftrace's language reference, "Config Variables".
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.suggest import did_you_mean
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

Value = int | str | bool


class Setting(NamedTuple):
    """A configuration variable. ``kind`` is ``bool``, ``int`` or ``str``; ``choices`` are the values a
    ``str`` may have, in lower case, empty for any; ``default`` None means: chosen when running.
    """

    kind: str
    default: Value | None
    choices: tuple[str, ...] = ()
    minimum: int = 0


_UNSTABLE = ("error", "warn", "enable")
SETTINGS: dict[str, Setting] = {
    "cache_user_symbols": Setting("str", None, ("per_program", "per_pid", "none")),
    "cpp_demangle": Setting("bool", default=True),
    "lazy_symbolication": Setting("bool", default=False),
    "license": Setting(
        "str",
        "GPL",
        ("gpl", "gpl v2", "gpl and additional rights", "dual bsd/gpl", "dual mit/gpl", "dual mpl/gpl"),
    ),
    "log_size": Setting("int", 1_000_000, minimum=1),
    "max_bpf_progs": Setting("int", 1024, minimum=1),
    "max_cat_bytes": Setting("int", 10240),
    "max_map_keys": Setting("int", 4096, minimum=1),
    "max_probes": Setting("int", 1024, minimum=1),
    "max_strlen": Setting("int", 1024, minimum=1),
    "max_type_res_iterations": Setting("int", 0),
    "missing_probes": Setting("str", None, ("error", "warn", "ignore")),
    "on_stack_limit": Setting("int", 32),
    "perf_rb_pages": Setting("int", None, minimum=1),
    "print_maps_on_exit": Setting("bool", default=True),
    "show_debug_info": Setting("bool", default=True),
    "stack_mode": Setting("str", "bpftrace", ("bpftrace", "perf", "raw", "build_id")),
    "str_trunc_trailer": Setting("str", ".."),
    "unstable_addr": Setting("str", "warn", _UNSTABLE),
    "unstable_import": Setting("str", "warn", _UNSTABLE),
    "unstable_import_statement": Setting("str", "warn", _UNSTABLE),
    "unstable_macro": Setting("str", "warn", _UNSTABLE),
    "unstable_map_decl": Setting("str", "warn", _UNSTABLE),
    "unstable_tseries": Setting("str", "warn", _UNSTABLE),
    "use_blazesym": Setting("bool", default=True),
    "verify_llvm_ir": Setting("bool", default=False),
}
# What older versions called a setting.
_RENAMED = {
    "map_keys_max": "max_map_keys",
    "strlen": "max_strlen",
    "max_programs": "max_bpf_progs",
    "cat_bytes_max": "max_cat_bytes",
    "no_cpp_demangle": "cpp_demangle",
}
# Settings the environment alone may make, because they act before a script is read.
ENVIRONMENT_ONLY = frozenset(("btf", "debug_output", "kernel_build", "kernel_source", "vmlinux", "color"))


def normalise(name: str) -> str:
    """``BPFTRACE_MAX_STRLEN``, ``MAX_STRLEN`` and ``max_strlen`` are ``max_strlen``.

    :raises Diagnostic: there is no such setting; without a span.
    """
    plain = name.lower()
    plain = plain.removeprefix("bpftrace_")
    plain = _RENAMED.get(plain, plain)
    if plain in SETTINGS:
        return plain
    if plain in ENVIRONMENT_ONLY:
        raise Diagnostic(
            f"'{name}' cannot be set in a script", hint=f"set the environment's BPFTRACE_{plain.upper()}"
        )
    raise Diagnostic(f"unknown config variable '{name}'", hint=did_you_mean(plain, SETTINGS))


def check(name: str, value: Value) -> Value:
    """The value of a (normalised) setting in its proper type, words in lower case.

    :raises Diagnostic: the value does not fit the setting; without a span.
    """
    setting = SETTINGS[name]
    if setting.kind == "bool":
        return _boolean(name, value)
    if setting.kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            raise Diagnostic(
                f"'{name}' takes a number", hint=f"for example: {name} = {setting.default or 64}"
            )
        if value < setting.minimum:
            raise Diagnostic(f"'{name}' must be at least {setting.minimum}")
        return value
    if not isinstance(value, str):
        word = str(value).lower() if isinstance(value, bool) else str(value)
        raise Diagnostic(f"'{name}' does not take {word}", hint=_choices_hint(setting))
    if not setting.choices:
        return value
    if value.lower() not in setting.choices:
        raise Diagnostic(
            f"'{name}' cannot be '{value}'",
            hint=did_you_mean(value.lower(), setting.choices) or _choices_hint(setting),
        )
    return value if name == "license" else value.lower()


def _choices_hint(setting: Setting) -> str:
    return "the values are " + ", ".join(setting.choices) if setting.choices else "it takes a string"


def _boolean(name: str, value: Value) -> bool:
    word = str(value).lower()
    if word in ("true", "1", "false", "0"):
        return word in ("true", "1")
    raise Diagnostic(f"'{name}' is true or false, not {value!r}")


def defaults() -> dict[str, Value | None]:
    """Every setting with its default."""
    return {name: setting.default for name, setting in SETTINGS.items()}


def from_environment(environment: Mapping[str, str]) -> dict[str, Value]:
    """The settings made by ``BPFTRACE_...`` variables.

    :raises Diagnostic: a value does not fit; without a span. Unknown names are left alone: they may
        be meant for another version.
    """
    found: dict[str, Value] = {}
    for key, text in environment.items():
        if not key.startswith("BPFTRACE_"):
            continue
        name = key[9:].lower()
        name = _RENAMED.get(name, name)
        setting = SETTINGS.get(name)
        if setting is None:
            continue
        if setting.kind == "int":
            if not text.isdecimal():
                raise Diagnostic(f"the environment's {key} takes a number, not '{text}'")
            found[name] = check(name, int(text))
        else:
            found[name] = check(name, text)
    return found
