"""Error texts, golden: ``errors/NAME.bt`` and what it prints, ``errors/NAME.err``.

Write new ones with ``TRACEBEE_BLESS=1 pytest tests/lang/test_lang_errors.py`` and read them.
"""

import glob
import os

import pytest

from tracebee.errors import SourceError
from tracebee.lang.frontend import load
from tracebee.source import Source

FILES = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "errors", "*.bt")))


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_error_text(path: str) -> None:
    with open(path) as file:
        text = file.read()
    with pytest.raises(SourceError) as caught:
        load(Source(os.path.basename(path), text), params=("one",))
    golden = path.removesuffix(".bt") + ".err"
    found = str(caught.value) + "\n"
    if os.environ.get("TRACEBEE_BLESS"):
        with open(golden, "w") as file:
            file.write(found)
    with open(golden) as file:
        assert found == file.read()
