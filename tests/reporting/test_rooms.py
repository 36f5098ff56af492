"""Every kind of report has the same modules; a figure is one function and one cell, a kind its data and a template."""

import json
import pkgutil
from pathlib import Path

import pytest
from pydantic import Field

from tadaconv import reporting
from tadaconv.reporting.ablation import report
from tadaconv.reporting.core.export import Listing, ReportManifest
from tadaconv.reporting.core.folder import Report, write_report
from tadaconv.reporting.core.options import ReportOptions
from tadaconv.reporting.index import write_index

SHIPPED = Path(__file__).resolve().parents[2] / "reports"
MODULES = {"data", "text", "page", "figures", "latex"}

FIGURE = """
# %%
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import figure


def drawn(export):
    return f"{len(export.cells)} cells, {export.manifest.table}"


@figure(
    caption=lambda export: f"Seconds of {drawn(export)}.", alt=lambda export, more: f"Bars: {drawn(export)}, {more}."
)
def seconds_by_cell(export):
    if export.cells.empty:
        return None
    made, ax = style.canvas(2.0)
    ax.barh(range(len(export.cells)), export.cells["seconds"])
    return made


# %%
figures.show(seconds_by_cell(export, more="more"), folder)
"""
TEMPLATE = """
# %%
from pathlib import Path

from tadaconv.reporting.core.page import Block

# %% tags=["parameters"]
folder = "."

# %%
text = Path(folder, "poem.csv").read_text()
Block(f"<p>{text}</p>", text)
"""


class PoemManifest(ReportManifest):
    """``report.json`` of a kind of report that is not there."""

    poem: str = Field(description="Its name.")


KINDS = [
    package.name for package in pkgutil.iter_modules(reporting.__path__) if package.ispkg and package.name != "core"
]


def test_there_are_the_kinds_that_pages_list() -> None:
    assert set(KINDS) == {"ablation", "study", "calibration", "benchmark"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_modules(kind: str) -> None:
    room = Path(reporting.__path__[0]) / kind
    assert {module.name for module in pkgutil.iter_modules([str(room)])} >= MODULES


def test_a_figure_is_one_function_and_one_cell(made_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "mine.py").write_text((SHIPPED / "ablation.py").read_text() + FIGURE)
    monkeypatch.chdir(tmp_path)
    loaded, records = made_up({"a": [50.0, 51.0], "base": [60.0, 61.0]})
    folder = report(loaded, "quick", records, tmp_path, ["html"], options=ReportOptions("mine"))

    assert {path.name for path in (folder / "figures").glob("seconds_by_cell.*")} == {
        f"seconds_by_cell.{kind}" for kind in ("svg", "png", "pdf")
    }
    page = (folder / "report.html").read_text()
    assert "Seconds of 4 cells, made_up." in page
    assert 'alt="Bars: 4 cells, made_up, more."' in page


def test_a_value_that_no_part_of_a_figure_names_is_an_error() -> None:
    from matplotlib.figure import Figure

    from tadaconv.reporting.core.figure import figure

    @figure(caption=lambda data: f"{data}", alt=lambda data, num: f"{data} of {num}")
    def draw_nothing(data: int) -> Figure | None:
        return Figure() if data else None

    drawing = draw_nothing(2, num=3)
    assert drawing is not None
    assert (drawing.name, drawing.caption, drawing.alt) == ("nothing", "2", "2 of 3")
    assert draw_nothing(0, num=3) is None
    with pytest.raises(TypeError, match="draw_nothing has no number"):
        draw_nothing(2, number=3)


def test_a_kind_of_report_is_its_data_and_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "poem.py").write_text(TEMPLATE)
    monkeypatch.chdir(tmp_path)
    made = Report(
        name="poem-roses",
        template="poem",
        listing=Listing(kind="poem", name="roses", title="What are roses?", ran="One line."),
        manifest=PoemManifest(poem="roses"),
        data={"poem.csv": "Roses are red.\n"},
        latex=lambda: "\\emph{Roses}\n",
        csv="poem.csv",
    )
    folder = write_report(made, tmp_path / "runs", ["html", "tex", "csv"], ReportOptions())

    assert json.loads((folder / "report.json").read_text())["listing"]["title"] == "What are roses?"
    assert "Roses are red." in (folder / "report.html").read_text()
    assert (folder / "table.tex").read_text() == "\\emph{Roses}\n"
    page = write_index(tmp_path / "runs").read_text()
    assert "<h2>poem</h2>" in page
    assert 'href="poem-roses/report.html"' in page


BEFORE = """
from tadaconv.reporting import blocks, figures
from tadaconv.reporting.calibration.figures import calibration_over_training
from tadaconv.reporting.export import read_export
from tadaconv.reporting.provenance import provenance
used = [blocks.headline, blocks.claims, blocks.results, blocks.failures, blocks.conditions, blocks.methods]
used += [figures.heading, figures.show, figures.accuracy_by_row, figures.differences, figures.accuracy_by_family]
used += [figures.accuracy_by_macs, figures.accuracy_by_latency, figures.placement_map, figures.gain_by_class]
used += [figures.confusion, figures.learning_curves, figures.Drawing]
used += [calibration_over_training, read_export, provenance]
""", """
from tadaconv.reporting.figures import show
from tadaconv.reporting.study import blocks, figures
from tadaconv.reporting.study.frame import read_study
from tadaconv.reporting.study.importance import importance
used = [show, blocks.headline, blocks.confirmation, blocks.ranking, blocks.importances, blocks.every_trial]
used += [blocks.unfinished, blocks.infeasible, blocks.conditions, blocks.provenance, blocks.methods, read_study]
used += [figures.pareto, figures.placement_map, figures.importance, figures.slices, figures.best_so_far]
used += [figures.learning_curves, importance]
""", """
from tadaconv.reporting.calibration import blocks, figures
from tadaconv.reporting.calibration.frame import read_calibration
from tadaconv.reporting.figures import show
from tadaconv.reporting.provenance import provenance
used = [blocks.headline, blocks.clips, blocks.layers, blocks.conditions, blocks.cell_lines, blocks.methods]
used += [figures.alpha_over_time, figures.alpha_spread, figures.alpha_over_training, read_calibration, show, provenance]
"""  # fmt: skip
"""What notebooks and templates of the first version import and call."""


@pytest.mark.parametrize("program", BEFORE)
def test_notebooks_of_before_find_what_they_import(program: str) -> None:
    names: dict[str, object] = {}
    exec(program, names)
    assert names["used"]
    assert all(map(callable, names["used"]))
