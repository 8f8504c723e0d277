from pathlib import Path

import pytest

from tracebee.errors import SourceError
from tracebee.lang.format import format_program
from tracebee.lang.frontend import Loaded, load
from tracebee.source import Source


def run(path: Path) -> Loaded:
    return load(Source(str(path), path.read_text()))


def printed(path: Path) -> str:
    return " ".join(format_program(run(path).program).split())


def test_what_is_imported_comes_first(tmp_path: Path) -> None:
    (tmp_path / "main.bt").write_text('import "lib/a.bt";\nBEGIN { print(one); }\n')
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.bt").write_text('import "b.bt";\nmacro one() { 1 }\nEND { print("a"); }\n')
    (tmp_path / "lib" / "b.bt").write_text('END { print("b"); }\n')
    assert printed(tmp_path / "main.bt") == (
        'END { print("b"); } END { print("a"); } BEGIN { print({ 1 }); }'
    )


def test_directories_cycles_and_statements(tmp_path: Path) -> None:
    (tmp_path / "main.bt").write_text('BEGIN { import "lib"; print(f(1)); }\n')
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "1.bt").write_text('import "2.bt";\nmacro f(x) { g(x) }\n')
    (tmp_path / "lib" / "2.bt").write_text('import "1.bt";\nimport "../main.bt";\nmacro g(x) { x }\n')
    (tmp_path / "lib" / "ignored.txt").write_text("not a script")
    assert printed(tmp_path / "main.bt") == "BEGIN { print({ { 1 } }); }"


def test_errors_name_the_imported_file(tmp_path: Path) -> None:
    (tmp_path / "main.bt").write_text('import "a.bt";\nBEGIN { }\n')
    (tmp_path / "a.bt").write_text("\nBEGIN {\n\tprint(1 2);\n}\n")
    with pytest.raises(SourceError) as caught:
        run(tmp_path / "main.bt")
    text = str(caught.value)
    assert f"{tmp_path}/a.bt:3:10: error: expected ',' or ')'" in text
    assert "    3 | \tprint(1 2);" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('import "none.bt";', "cannot import"),
        ('import "empty";', "no .bt files"),
        ('import "x.o";', "cannot import"),
        ('import "config.bt";', "cannot have a config block"),
    ],
)
def test_bad_imports(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "config.bt").write_text("config = { log_size = 1 }\n")
    (tmp_path / "main.bt").write_text(line + "\nBEGIN { }\n")
    with pytest.raises(SourceError, match=message):
        run(tmp_path / "main.bt")
