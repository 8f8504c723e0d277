"""Headers of one's own: what they give a script, where they are found, and where their errors are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracebee.api.compiling import compile_text
from tracebee.errors import SourceError
from tracebee.lang.frontend import Loaded, load
from tracebee.source import Source

TYPES = """\
#ifndef TYPES_H
#define TYPES_H
#include "more.h"
#include <stdint.h>
#include <linux/sched.h>
/* What is no type is passed over. */
extern int helper(struct point *p, int (*f)(void));
static inline int twice(int x) { if (x) { return 2 * x; } return 0; }
struct point { int x; int y; };
struct forward;
struct point *find(const char *name);
typedef int (*callback_t)(struct point *, int);
typedef struct { struct point from, to; } line_t;
int table[] = { 1, 2, 3 };
#define SIZE 7
#if SIZE == 7
struct sized { char c[SIZE]; };
#else
struct sized { char c[100]; };
#endif
#endif
"""
MORE = "#pragma once\nenum shade { DARK = 3, LIGHT };\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "types.h").write_text(TYPES)
    (tmp_path / "more.h").write_text(MORE)
    (tmp_path / "below" / "only.h").write_text("struct only { long l; };\n")
    return tmp_path


def script(folder: Path, text: str, **options: list[str]) -> Loaded:
    path = folder / "script.bt"
    path.write_text(text)
    return load(Source(str(path), text), **options)  # type: ignore[arg-type]


def size(loaded: Loaded, name: str) -> int:
    assert loaded.definitions is not None
    found = loaded.definitions.type(name)
    assert found is not None
    return found.size


def test_types_and_macros(folder: Path) -> None:
    loaded = script(folder, '#include "types.h"\n#include "types.h"\nBEGIN { print(SIZE); }')
    assert (size(loaded, "struct point"), size(loaded, "line_t"), size(loaded, "struct sized")) == (8, 16, 7)
    assert loaded.definitions is not None
    constant = loaded.definitions.constant("LIGHT")
    assert constant is not None
    assert constant[0] == 4


def test_directories_and_headers_before_the_script(folder: Path) -> None:
    below = [str(folder / "below")]
    for include in ('"only.h"', "<only.h>"):
        loaded = script(folder, f"#include {include}\nBEGIN {{ }}", header_directories=below)
        assert size(loaded, "struct only") == 8
    assert size(script(folder, "BEGIN { }", headers=[str(folder / "types.h")]), "struct point") == 8
    loaded = script(folder, "BEGIN { }", headers=["only.h"], header_directories=below)
    assert size(loaded, "struct only") == 8


def test_an_imported_script_has_headers_too(folder: Path) -> None:
    (folder / "below" / "part.bt").write_text('#include "only.h"\nBEGIN { print(sizeof(struct only)); }')
    assert size(script(folder, 'import "below/part.bt";\nBEGIN { }'), "struct only") == 8


def test_headers_of_the_kernel_and_the_system_are_not_looked_for(folder: Path) -> None:
    loaded = script(folder, '#include <linux/no_such.h>\n#include <x.h>\n#include "vmlinux.h"\nBEGIN { }')
    assert loaded.program.items


def test_lines_keep_their_numbers(folder: Path) -> None:
    with pytest.raises(SourceError) as caught:
        script(folder, "BEGIN { }\nBEGIN { print(; }", headers=[str(folder / "types.h")])
    assert caught.value.message.startswith(f"{folder}/script.bt:2:15: error: ")


# Header text, script text: the place and the words of the error.
ERRORS = [
    ("", '#include "none.h"\nBEGIN { }', "script.bt:1:1: error: there is no header 'none.h'"),
    ('\n#include "none.h"', "", "bad.h:2:1: error: there is no header 'none.h'"),
    ("struct s { int x; nothing y; };", "", "bad.h:1:19: error: unknown type 'nothing'"),
    ("struct s { int x;", "", "bad.h:1:1: error: this struct's '{' is not closed"),
    ("int f(void) {", "", "bad.h:1:1: error: this declaration's '{' is not closed"),
    ("#if 1\nstruct s { int x; };", "", "bad.h:2:21: error: an '#if' is not closed"),
    ('#include "bad.h"', "", "bad.h:1:1: error: '"),
    ("#error nothing fits", "", "bad.h:1:1: error: #error nothing fits"),
    ("", "#include\nBEGIN { }", "script.bt:1:1: error: '#include' needs a file"),
]


@pytest.mark.parametrize(("header", "text", "message"), ERRORS)
def test_errors_have_their_place(folder: Path, header: str, text: str, message: str) -> None:
    (folder / "bad.h").write_text(header)
    with pytest.raises(SourceError) as caught:
        script(folder, text or '#include "bad.h"\nBEGIN { }')
    assert caught.value.message.startswith(f"{folder}/{message}")
    assert "| " in caught.value.message


@pytest.mark.needs("btf")
def test_warnings_have_their_place_too(folder: Path) -> None:
    (folder / "part.bt").write_text("BEGIN { }\n\nbegin, iter:no_such_iterator { }\n")
    main = Source(str(folder / "main.bt"), 'import "part.bt";\nBEGIN { }')
    (folder / "main.bt").write_text(main.text)
    told: list[str] = []
    compile_text(main, warn=lambda finding: told.append(getattr(finding, "render", str)(main)))
    (warning,) = told
    head, line, _ = warning.splitlines()[:3]
    assert head.startswith(f"{folder}/part.bt:3:8: warning: ")
    assert line.endswith("| begin, iter:no_such_iterator { }")


def test_a_missing_header_before_the_script() -> None:
    with pytest.raises(SourceError, match=r"there is no header '/no/such\.h'"):
        load(Source("x.bt", "BEGIN { }"), headers=["/no/such.h"])
