import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tadaconv.errors import RunError, UserError
from tadaconv.files import write_atomically
from tadaconv.metrics import TOP1
from tadaconv.reporting.ablation.data import Manifest, collect, files_of, read_export
from tadaconv.reporting.ablation.summary import summarise
from tadaconv.reporting.core.export import cell_columns, write_files


def test_what_is_exported_is_read_back(made_up, tmp_path: Path) -> None:
    # Names that a careless reader of CSV takes for unknown, for a number or for two fields.
    loaded, records = made_up(
        {"NA": [50.0, None], "007": [1 / 3, 2 / 3], 'a "b", c; d': [1.0, 2.0], "base": [60.0, 61.0]}
    )
    export = collect(loaded, "quick", records)
    write_files(files_of(export), tmp_path)
    write_atomically(tmp_path / "report.json", export.manifest.model_dump_json())
    back = read_export(tmp_path)
    assert back.manifest == export.manifest
    for name in ("cells", "curves", "families"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(export, name), check_dtype=False)


def test_a_line_a_cell(context) -> None:
    cells = collect(context[0], "quick", context[1]).cells
    assert cells.columns.tolist() == list(cell_columns(TOP1))
    assert len(cells) == 30
    first = cells.iloc[0]
    assert (first["row"], first["seed"], first["status"]) == ("no calibration (TSN)", 0, "finished")
    assert (first["device"], first["version"]) == ("cpu", "0.1.0")
    assert first["cell"] == context[1][0].cell.key


def test_every_number_leads_back_to_its_experiment(context) -> None:
    export = collect(context[0], "quick", context[1])
    origin = export.manifest.cells[0]
    assert origin.environment["torch"] == "2.9.0"
    assert origin.experiment["temporal"] is None
    assert origin.experiment["seed"] == 0
    assert Manifest.model_validate_json(export.manifest.model_dump_json()) == export.manifest


def test_families_of_an_earlier_report_are_not_read(made_up, context, tmp_path: Path) -> None:
    write_files(files_of(collect(context[0], "quick", context[1])), tmp_path)
    loaded, records = made_up({"base": [None]})
    export = collect(loaded, "quick", records)
    write_files(files_of(export), tmp_path)
    write_atomically(tmp_path / "report.json", export.manifest.model_dump_json())
    assert read_export(tmp_path).families.empty


def test_a_folder_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no exported report: .*report\.json is missing"):
        read_export(tmp_path)


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "table.csv"
    write_atomically(file, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left"):
        write_atomically(file, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    assert file.read_text() == "old"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="--out"):
        write_atomically(tmp_path / "reports" / "table.csv", "x")


def test_rows_carry_what_is_their_own(hosts) -> None:
    export = collect(hosts[0], "quick", hosts[1])
    by_name = {row.name: row for row in export.manifest.rows}
    fast = by_name["slowfast_4x16 + cin"]
    assert (fast.backbone, fast.num_frames, fast.versus) == ("slowfast_4x16", 32, "slowfast_4x16")
    assert by_name["r3d"].versus is None
    assert Manifest.model_validate_json(export.manifest.model_dump_json()) == export.manifest


def test_conditions_are_those_of_every_cell(hosts, context) -> None:
    shared = collect(hosts[0], "quick", hosts[1]).manifest.conditions
    assert "name" not in shared["backbone"]
    assert "num_frames" not in shared["data"]
    for record in hosts[1]:
        tree = record.cell.experiment.model_dump(mode="json")
        assert all(tree[part][name] == value for part, values in shared.items() for name, value in values.items())
    first = context[1][0].cell.experiment.model_dump(mode="json", include={"backbone", "data", "schedule"})
    assert collect(context[0], "quick", context[1]).manifest.conditions == first


def test_a_report_exported_before_rows_had_these_is_read(hosts, tmp_path: Path) -> None:
    export = collect(hosts[0], "quick", hosts[1])
    write_files(files_of(export), tmp_path)
    old = json.loads(export.manifest.model_dump_json())
    for row in old["rows"]:
        del row["backbone"], row["num_frames"], row["versus"]
        if row["paper"]:
            del row["paper"]["params_m"]
    write_atomically(tmp_path / "report.json", json.dumps(old))
    back = read_export(tmp_path)
    assert [row.name for row in back.manifest.rows] == [row.name for row in export.manifest.rows]
    assert summarise(back)["versus"].unique().tolist() == [export.manifest.base, ""]


def test_cells_say_what_they_ran_on_where_that_differs(hosts, tmp_path: Path) -> None:
    export = collect(hosts[0], "quick", hosts[1])
    assert export.cells.columns.tolist() == [*cell_columns(TOP1), "backbone", "num_frames"]
    for record, line in zip(hosts[1], export.cells.to_dict("records"), strict=True):
        experiment = record.cell.experiment
        assert (line["backbone"], line["num_frames"]) == (experiment.backbone.name, experiment.data.num_frames)
    write_files(files_of(export), tmp_path)
    write_atomically(tmp_path / "report.json", export.manifest.model_dump_json())
    pd.testing.assert_frame_equal(read_export(tmp_path).cells, export.cells, check_dtype=False)


def test_only_what_differs_gets_a_column(hosts) -> None:
    short = [record for record in hosts[1] if record.cell.experiment.data.num_frames == 8]
    assert collect(hosts[0], "quick", short).cells.columns.tolist() == [*cell_columns(TOP1), "backbone"]
