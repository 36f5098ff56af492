"""The page of a report: outputs without code, whatever else is installed beside nbconvert."""

from pathlib import Path

import pytest
from nbconvert.exporters import templateexporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from tadaconv.reporting.core.format import data_uri
from tadaconv.reporting.core.notebook import as_page, execute_cells


def shown(mime: str, data: str, kind: str = "display_data", **metadata: object) -> NotebookNode:
    return new_output(kind, {mime: data, "text/plain": "plain"}, metadata=metadata)


NOTEBOOK = new_notebook(
    cells=[
        new_raw_cell("raw words"),
        new_markdown_cell("# Heading\n\nSome **words**."),
        new_code_cell(
            "secret = 1",
            outputs=[
                new_output("stream", name="stdout", text="printed <1>"),
                shown("text/html", "<table><tr><td>1</td></tr></table>"),
                shown("text/html", "<p>result</p>", "execute_result"),
                shown("image/svg+xml", "<svg/>", alt='a "curve"', caption="Up & down"),
                shown("image/svg+xml", "<svg>caption</svg>", is_caption=True),
                new_output("execute_result", {"text/plain": "<object>"}),
            ],
        ),
    ]
)
IMAGE = data_uri(b"<svg/>", "image/svg+xml")
EXPECTED = [
    "<title>A &lt;title&gt;</title>",
    "Heading",
    "<strong>words</strong>",
    "<pre>printed &lt;1&gt;</pre>",
    "<table><tr><td>1</td></tr></table>",
    "<p>result</p>",
    f'<img src="{IMAGE}" alt="a &#34;curve&#34;">',
    "<figcaption>Up &amp; down</figcaption>",
    "<pre>&lt;object&gt;</pre>",
    "</html>\n",
]


@pytest.mark.parametrize("has_templates", [True, False])
def test_a_page_shows_the_outputs_in_order_with_and_without_the_templates_of_nbconvert(
    has_templates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed with ``pip install --target``, nbconvert finds none of its own templates."""
    if not has_templates:
        monkeypatch.setattr(templateexporter, "jupyter_path", list)
    page = as_page(NOTEBOOK, "A <title>")
    places = [page.find(part) for part in EXPECTED]
    assert -1 not in places, EXPECTED[places.index(-1)]
    assert places == sorted(places)
    assert not [word for word in ("secret", "raw words", "plain", "caption</svg>") if word in page]
    assert page.count("<img") == 1


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}"])
def test_a_kernel_needs_no_folder_of_the_user(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, place.format(file=tmp_path / "file"))
    notebook = new_notebook(cells=[new_code_cell("print(1 + 1)")])
    execute_cells(notebook, tmp_path)
    assert "".join(output["text"] for output in notebook.cells[0].outputs) == "2\n"
    assert capfd.readouterr().err == ""


def test_settings_of_the_user_change_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    startup = tmp_path / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "mine.py").write_text("print('started')\nleft = 1\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = new_notebook(cells=[new_code_cell("print('left' in globals())")])
    execute_cells(notebook, tmp_path)
    assert "".join(output["text"] for output in notebook.cells[0].outputs) == "False\n"
