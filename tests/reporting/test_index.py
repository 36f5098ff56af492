"""The page that leads to every report of a run folder."""

import io
import json
import re
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from matplotlib.figure import Figure
from PIL import Image
from support import Page

from tadaconv.errors import UserError
from tadaconv.reporting import index, report
from tadaconv.reporting.ablation.data import read_export
from tadaconv.reporting.ablation.summary import verdicts
from tadaconv.reporting.benchmark import benchmark_report
from tadaconv.reporting.calibration.data import CalibrationManifest
from tadaconv.reporting.calibration.text import listing
from tadaconv.reporting.index import IndexEntry, read_entries, read_entry, render, write_index
from tadaconv.reporting.study import study_report
from tadaconv.table import Claim

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
SCRIPT = "<script>alert('1')</script>"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, make_up, make_study) -> Path:
    """A run folder with a space and a quote: two tables, a study, a benchmark, and what is not ours."""
    out = tmp_path_factory.mktemp("it's a folder")
    claims = [Claim("a helps", "a", "base", "made up"), Claim(f"{SCRIPT} helps", SCRIPT, "base", "made up")]
    scores = {SCRIPT: [50.0, 51.0, None], "a": [70.0, 71.0, 73.5], "base": [60.0, 61.0, 63.0]}
    loaded, records = make_up(scores, claims=claims)
    folder = report(loaded, "quick", records, out, ["csv", "tex"])
    (folder / "figures").mkdir()
    for name in ("accuracy_by_row", "zebra"):
        figure = Figure(figsize=(5.4, 9), facecolor="red" if name == "zebra" else "white")
        figure.savefig(folder / "figures" / f"{name}.png", dpi=200)
    report(loaded, f"labs/it's <b>my lab {'ü'}.py", records, out, ["csv"])
    study, trials = make_study(24)
    study_report(study, "quick", trials, out, ["csv"])
    benchmark_report([RESULTS], out, ["csv"])
    reports = out / "reports"
    (reports / "mine").mkdir()
    (reports / "mine" / "report.json").write_text('{"digests": {}, "mine": 1}')
    (reports / "broken").mkdir()
    (reports / "broken" / "report.json").write_text("{")
    (reports / "list").mkdir()
    (reports / "list" / "report.json").write_text('["table", "digests"]')
    (reports / "empty").mkdir()
    (reports / "notes.txt").write_text("mine")
    return out


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page(write_index(out).read_text(encoding="utf-8"))


def entry(out: Path, folder: str) -> IndexEntry:
    (found,) = [each for each in read_entries(out / "reports") if each.folder == folder]
    return found


def test_every_report_of_ours_is_listed_by_kind_and_name(out: Path, page: Page) -> None:
    found = [(each.kind, each.name, each.regime) for each in read_entries(out / "reports")]
    assert found == [
        ("table", "made_up", "it's <b>my lab ü"),
        ("table", "made_up", "quick"),
        ("study", "placed", "quick"),
        ("benchmark", "results", ""),
    ]
    headings = [heading for heading in index.KINDS.values() if heading in page.words]
    assert headings == ["Ablation tables", "Design studies", "Benchmarks"]
    assert [page.words.index(heading) for heading in headings] == sorted(map(page.words.index, headings))


def test_a_table_says_what_its_report_says(out: Path) -> None:
    found = entry(out, "made_up-quick")
    export = read_export(out / "reports" / "made_up-quick")
    assert found.claims == dict(Counter(verdicts(export)["verdict"]))
    assert sum(found.claims.values()) == 2
    assert found.title == "Does it matter?"
    assert found.ran == "3 rows, 3 seeds: 8 of 9 cells finished, 1 failed."
    assert (found.first, found.last) == (
        datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        datetime(2026, 3, 1, 12, 2, tzinfo=UTC),
    )
    assert found.when == "2026-03-01 12:00 to 2026-03-01 12:02 UTC"
    assert found.files == {"table.tex": "LaTeX", "table.csv": "CSV"}


def test_a_study_names_its_best_trial(out: Path, make_study) -> None:
    finished = [record for record in make_study(24)[1] if record.status == "finished"]
    best = max(finished, key=lambda record: record.score)
    assert entry(out, "placed-quick").findings == [
        f"Best of {len(finished)} finished trials: {best.name}, {best.score:.1f} %."
    ]


def test_a_benchmark_says_what_it_found_and_how_much_more_there_is(out: Path) -> None:
    found = entry(out, "benchmark-results")
    assert found.ran == "4 runs on CPU (2 threads)."
    assert len(found.findings) == 5
    assert found.findings[0].startswith("The operator alone, TAda cin: ")
    assert re.fullmatch(r"\d+ more findings on its page\.", found.findings[4])
    assert found.when == ""


def test_a_trained_cell_is_listed_with_its_row(out: Path, tmp_path: Path) -> None:
    tree = json.loads((out / "reports" / "made_up-quick" / "report.json").read_text())
    manifest = CalibrationManifest(
        table="made_up", question="Does it matter?", regime="quick", row=SCRIPT, seed=3, top1=61.25,
        seconds=1.0, num_clips=24, alpha_low=0.9, alpha_high=1.1, conditions={},
        cells=[tree["cells"][0]], opened_with={},
    )  # fmt: skip
    folder = tmp_path / "reports" / "made_up-cell"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(manifest.model_copy(update={"listing": listing(manifest)}).model_dump_json())
    found = read_entry(folder)
    assert found is not None
    assert found.kind == "calibration"
    assert found.ran.startswith(f"Row \u201c{SCRIPT}\u201d, seed 3, at 61.2 %; 24 validation clips")
    assert found.last == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    html = render([found])
    assert "<script" not in html
    assert Page(html).text.count(SCRIPT) == 2
    assert Page(html).values("href") == ["made_up-cell/report.json"]


def test_links_lead_to_files_of_the_folder(out: Path, page: Page) -> None:
    links = page.values("href")
    assert len(links) == 4 + 1 + (2 + 1 + 1 + 1)
    for link in links:
        assert not re.search(r"[\s'\"<>]", link)
        assert ":" not in link
        assert (out / "reports" / unquote(link)).is_file(), link


def test_the_page_asks_for_nothing_and_names_come_out_as_text(out: Path, page: Page) -> None:
    html = (out / "reports" / "index.html").read_text(encoding="utf-8")
    assert not {"script", "link", "iframe", "object", "b"} & {tag for tag, _ in page.tags}
    assert all(address.startswith("data:image/png;base64,") for address in page.values("src", "srcset", "action"))
    assert "url(" not in html
    assert "@import" not in html
    assert "it's <b>my lab ü" in page.words
    assert str(out) not in html


def test_the_main_figure_is_small(out: Path) -> None:
    thumbnail = entry(out, "made_up-quick").thumbnail
    assert thumbnail is not None
    assert len(thumbnail) < 20_000
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert max(image.width / 320, image.height / 240) == 1
        assert image.convert("RGB").getpixel((image.width // 2, image.height // 2)) == (
            255,
            255,
            255,
        )  # not the red one
    assert entry(out, "placed-quick").thumbnail is None


def test_the_same_reports_give_the_same_bytes_and_nothing_is_deleted(out: Path, page: Page, tmp_path: Path) -> None:  # noqa: ARG001
    copy = shutil.copytree(out, tmp_path / "copy")
    (copy / "reports" / "index.html").unlink()
    write_index(copy)
    write_index(copy)
    files = {p.relative_to(out) for p in out.rglob("*") if p.is_file()}
    assert files == {p.relative_to(copy) for p in copy.rglob("*") if p.is_file()}
    for file in files:
        assert (out / file).read_bytes() == (copy / file).read_bytes(), file


@pytest.mark.parametrize("listing", [None, {"surprise": 1}, "none"])
def test_a_report_of_another_version_is_listed_as_one(out: Path, tmp_path: Path, listing: object) -> None:
    for name in ("made_up-quick", "placed-quick", "benchmark-results"):
        folder = shutil.copytree(out / "reports" / name, tmp_path / name)
        tree = json.loads((folder / "report.json").read_text())
        del tree["listing"]
        (folder / "report.json").write_text(
            json.dumps({**tree, "surprise": 1} | ({"listing": listing} if listing else {}))
        )
        found = read_entry(folder)
        assert found is not None
        assert found.ran == "Written by another version of tadaconv; report it again."
        assert found.title == {"made_up-quick": "Does it matter?", "placed-quick": "Which stages need it?"}.get(
            name, ""
        )
        assert found.name == {"made_up-quick": "made_up", "placed-quick": "placed"}.get(name, "results")
    (tmp_path / "made_up-quick" / "figures" / "accuracy_by_row.png").write_text("mine")
    assert "Written by another version" in render(read_entries(tmp_path))


def test_a_page_of_the_users_own_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text("mine")
    with pytest.raises(UserError, match=r"index\.html is not a page of tada report --all; move it away"):
        write_index(tmp_path)
    assert (tmp_path / "reports" / "index.html").read_text() == "mine"


def test_no_report_yet(tmp_path: Path) -> None:
    page = Page(write_index(tmp_path).read_text())
    assert "0 reports" in page.words
    assert "There are no reports yet." in page.words


def test_the_days_of_one_cell_and_of_none() -> None:
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    made = IndexEntry(folder="f", kind="table", name="t", ran="ran", first=at, last=at, files={}, thumbnail=None)
    assert made.when == "2026-03-01 12:00 UTC"
    assert (
        IndexEntry(folder="f", kind="table", name="t", ran="ran", first=None, last=None, files={}, thumbnail=None).when
        == ""
    )
