"""What a notebook's cell raises comes out as what it is: a wrong call, or a report that cannot go on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tadaconv.errors import RunError, UserError
from tadaconv.reporting.core.notebook import execute, require_parameters

# A child of its own: the limit on the size of files is the process's, and its kernel inherits it.
FULL = """
import resource, sys
from pathlib import Path
from tadaconv.errors import RunError
from tadaconv.reporting.core.notebook import execute

resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
try:
    execute(Path(sys.argv[1]), Path(sys.argv[2]))
except RunError as error:
    print(error)
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def test_a_file_that_cannot_be_written_whole_is_no_wrong_call(template: Path, tmp_path: Path) -> None:
    template.write_text(
        "# %%\nfrom pathlib import Path\nfrom tadaconv.reporting.core.export import write_atomically\n"
        "# %%\nwrite_atomically(Path('figures/one.svg'), bytes(10))\n"
        "write_atomically(Path('figures/two.svg'), bytes(10**6))\n"
    )
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    ran = subprocess.run([sys.executable, "-c", FULL, template, folder], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{folder}: cannot write figures/two.svg: File too large; ")
    assert ran.stdout.count("\n") == 1
    assert [path.name for path in (folder / "figures").iterdir()] == ["one.svg"]


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (
            "UserError('unknown layer')",
            UserError,
            "{template}: code cell 2 of the report's notebook, at {line!r}, fails: UserError: unknown layer",
        ),
        (
            "KeyError('row\\nof two lines')",
            UserError,
            "{template}: code cell 2 of the report's notebook, at {line!r}, fails: KeyError: {key!r}",
        ),
        ("RunError('no room\\nhere')", RunError, "{folder}: no room"),
        ("StorageError('the server is away')", RunError, "{folder}: the server is away"),
    ],
)
def test_what_a_cell_raises_keeps_its_kind(
    template: Path, tmp_path: Path, raised: str, kind: type[Exception], said: str
) -> None:
    template.write_text(
        "# %%\nfrom tadaconv.errors import *\n# %% [markdown]\n# Words.\n# %%\ndef fail():\n"
        f"    raise {raised}\nfor _ in range(2):\n    fail()\n"
    )
    with pytest.raises(kind) as error:
        execute(template, tmp_path)
    assert type(error.value) is kind
    assert str(error.value) == said.format(template=template, folder=tmp_path, line="fail()", key="row\nof two lines")


@pytest.mark.parametrize("line", ["for", "x = undefined", "from nowhere import nothing", "input()"])
def test_what_cannot_be_run_is_named_with_its_line(template: Path, tmp_path: Path, line: str) -> None:
    template.write_text(f"# %%\n1 + 1\n\n{line}\n")
    with pytest.raises(UserError, match=re.escape(f"code cell 1 of the report's notebook, at {line!r}, fails: ")):
        execute(template, tmp_path)


def test_a_template_without_parameters_says_so(template: Path) -> None:
    template.write_text("# %%\n1 + 1\n")
    with pytest.raises(UserError, match="has no parameters; tag the cell"):
        require_parameters(template, ["num"])
    require_parameters(template, [])
