"""C++ and Rust names as their authors wrote them."""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def demangle(name: str) -> str:
    """The name in its source's form, ``ns::f(int)``; the name itself when it is not mangled or
    cannot be read.
    """
    if name.startswith("_R"):
        return _rust()(name) or name
    if name.startswith(("_Z", "__Z")):
        return _cpp()(name) or name
    return name


@functools.cache
def _cpp() -> Callable[[str], str | None]:
    return _libstdcxx() or _cpp_demangle() or _unchanged


def _libstdcxx() -> Callable[[str], str | None] | None:
    import ctypes  # only once a mangled name turns up

    try:
        library = ctypes.CDLL("libstdc++.so.6")
        function, free = library["__cxa_demangle"], ctypes.CDLL(None).free
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    free.argtypes = (ctypes.c_void_p,)

    def call(name: str) -> str | None:
        result = function(name.encode("utf-8", "surrogateescape"), None, None, None)
        if not result:
            return None
        try:
            return ctypes.string_at(result).decode("utf-8", "surrogateescape")
        finally:
            free(result)

    return call


def _cpp_demangle() -> Callable[[str], str | None] | None:
    try:
        import cpp_demangle
    except ImportError:
        return None

    def call(name: str) -> str | None:
        try:
            return str(cpp_demangle.demangle(name))
        except ValueError:
            return None

    return call


@functools.cache
def _rust() -> Callable[[str], str | None]:
    try:
        import rust_demangler
    except ImportError:
        return _unchanged

    def call(name: str) -> str | None:
        try:
            return str(rust_demangler.demangle(name))
        except Exception:
            return None

    return call


def _unchanged(_name: str) -> None:
    return None
