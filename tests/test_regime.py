"""Recipes of a regime: which cells they train, what they change, and what stays as it was."""

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from tadaconv.errors import UserError
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.locations import resolve_data
from tadaconv.preview import check, costs
from tadaconv.regime import Published, Recipe, Regime
from tadaconv.spec import Backbone, Folder, Schedule, Synthetic, TAda
from tadaconv.table import LoadedTable, Row, Table
from tadaconv.table_run import current_records, dry_run_cells
from tadaconv.weights import fingerprint

SGD = Schedule(epochs=20, batch_size=128, lr=0.48, warmup_epochs=4, cosine="all_epochs")
ADAMW = Schedule(optimizer="adamw", epochs=20, batch_size=32, lr=1e-3, weight_decay=0.05)
HALVED = Recipe(num_frames=16, origin="paper", changes={"schedule__batch_size": 64, "schedule__lr": 0.24})
PLAIN = Recipe(
    backbones=("convnext_tiny_clip", "convnext_small_clip"),
    origin="ours",
    changes={"schedule": ADAMW, "data__size": 96, "backbone__weights": "", "backbone__dropout": 0.1},
)
REGIME = Regime(
    summary="made up",
    backbone=Backbone(name="resnet50", dropout=0.5, weights="torchvision:ResNet50_Weights.IMAGENET1K_V1"),
    data=Folder(fingerprint="ab", num_classes=5, size=112, num_temporal_views=2),
    schedule=SGD,
    recipes=(PLAIN, HALVED),
    published=(
        Published(data="Something-Something-V2", num_frames=8, views="2 clips x 3 crops of 256 px"),
        Published(data="Something-Something-V2", num_frames=16, views="2 clips x 3 crops of 256 px"),
    ),
)


@pytest.mark.parametrize(
    ("backbone", "num_frames", "schedule", "size", "dropout", "has_weights"),
    [
        (None, None, SGD, 112, 0.5, True),
        ("resnet50", 8, SGD, 112, 0.5, True),
        ("resnet50", 16, SGD.but(batch_size=64, lr=0.24), 112, 0.5, True),
        (None, 16, SGD.but(batch_size=64, lr=0.24), 112, 0.5, True),
        ("resnet50", 32, SGD, 112, 0.5, True),
        ("convnext_tiny_clip", None, ADAMW, 96, 0.1, False),
        ("convnext_tiny_clip", 16, ADAMW, 96, 0.1, False),  # the first that takes it
        ("convnext_base_clip", 16, SGD.but(batch_size=64, lr=0.24), 112, 0.5, True),
    ],
)
def test_a_cell_is_trained_by_the_first_recipe_that_takes_its_backbone_and_frames(
    backbone: str | None, num_frames: int | None, schedule: Schedule, size: int, dropout: float, has_weights: bool
) -> None:
    found = REGIME.experiment(TAda(), 3, backbone, num_frames)
    assert found.schedule == schedule
    assert found.data == REGIME.data.but(size=size, num_frames=num_frames or 8)
    weights = REGIME.backbone.weights if has_weights else ""
    assert found.backbone == Backbone(name=backbone or "resnet50", dropout=dropout, weights=weights)
    assert (found.temporal, found.seed) == (TAda(), 3)


def test_keys_hold_what_a_recipe_yields_and_not_that_there_is_one() -> None:
    without = REGIME.but(recipes=())
    assert REGIME.experiment(None, 0).key == without.experiment(None, 0).key
    by_hand = without.but(schedule__batch_size=64, schedule__lr=0.24).experiment(None, 0, None, 16)
    assert REGIME.experiment(None, 0, None, 16).key == by_hand.key != without.experiment(None, 0, None, 16).key


def test_a_recipe_goes_by_the_backbone_that_is_asked_for_not_by_what_stands_in() -> None:
    small = REGIME.but(backbone=Backbone(name="tiny"), stand_ins={"convnext_tiny_clip": "tiny_convnext_clip"})
    found = small.experiment(None, 0, "convnext_tiny_clip")
    assert (found.backbone.name, found.schedule) == ("tiny_convnext_clip", ADAMW)
    own = REGIME.but(backbone__name="convnext_tiny_clip").experiment(None, 0)
    assert own.schedule == ADAMW


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": Folder()}, "the clips are the same for every row, so a recipe does not change data"),
        ({"data__root": "/clips"}, "does not change data__root"),
        ({"data__val_share": 0.5}, "does not change data__val_share"),
        ({"data__num_frames": 16}, "backbone and number of frames are the row's, .* change data__num_frames"),
        ({"backbone__name": "tiny"}, "so a recipe does not change backbone__name"),
    ],
)
def test_a_recipe_changes_no_clips(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe(origin="ours", changes=changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule__rate": 1}, "a recipe of the regime: unknown field of Schedule 'rate'"),
        (
            {"schedule__epochs": 3},
            "regime: Schedule: warmup_epochs, 4, has to be below epochs, 3$",
        ),
        ({"summary": "other"}, "a recipe of the regime: unknown field of Conditions 'summary'; one of: schedule, data"),
    ],
)
def test_a_recipe_that_cannot_be_applied_is_refused_with_the_regime(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        REGIME.but(recipes=[Recipe(origin="ours", changes=changes)])


def test_what_was_published_is_compared_with_where_the_paper_trained_so() -> None:
    assert REGIME.published_as(None, 8) == REGIME.published[0] == REGIME.published_as()
    assert REGIME.published_as("resnet50", 16) == REGIME.published[1]
    assert REGIME.published_as("resnet50", 32) is None
    assert REGIME.published_as("convnext_tiny_clip", 16) is None
    assert REGIME.but(schedule__epochs=5).published == ()
    assert REGIME.but(backbone__name="tiny").published == ()
    assert REGIME.but(summary="the same").published == REGIME.published
    assert REGIME.but(schedule__epochs=5, published=REGIME.published).published == REGIME.published
    found = REGIME.with_clips(REGIME.data.but(root="/clips")).with_weights(lambda host: host)
    assert found.published == REGIME.published


def test_every_recipe_gets_the_fingerprint_of_its_own_weights(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.pth", "two.pth")]
    for file in files:
        file.write_bytes(file.name.encode())
    one, two = map(fingerprint, files)
    recipes = (
        Recipe(num_frames=4, origin="ours", changes={"backbone__weights": str(files[1])}),
        Recipe(num_frames=5, origin="ours", changes={"backbone__weights": ""}),
        Recipe(num_frames=6, origin="ours", changes={"backbone": Backbone(name="tiny", weights=str(files[0]))}),
        Recipe(num_frames=7, origin="ours", changes={"schedule__lr": 0.2}),
    )
    regime = Regime(
        summary="", backbone=Backbone(name="tiny", weights=str(files[0])), recipes=recipes,
        data=Synthetic(num_train=4, num_val=4), schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
    )  # fmt: skip
    resolved = resolve_data(regime, None, tmp_path)
    rows = [Row(str(n), None, num_frames=n) for n in (8, 4, 5, 6, 7)]
    cells = [row.cell(resolved, 0) for row in rows]
    assert [cell.experiment.backbone.weights_fingerprint for cell in cells] == [one, two, "", one, one]
    assert len({cell.experiment.key for cell in cells}) == 5
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-r", cells, [0], None)
    for cell in cells:
        store.add("t-r", cell, TrialState.FAIL, attrs={"error": "made up"})
    for file in files:
        file.unlink()  # reports need no weights
    table = LoadedTable("t", "", Table(base=rows[0], rows=rows[1:]))
    assert len(current_records(table, regime, "t-r", store)) == 5


def test_a_regime_of_another_split_does_not_show_what_was_run_on_the_old(tmp_path: Path) -> None:
    regime = REGIME.but(data__layout="ucf101", data__split="1", data__num_classes=0, data__fingerprint="", recipes=())
    found = regime.data.but(fingerprint="one", num_classes=5, num_listed=(9, 3), index=str(tmp_path / "index"))
    table = LoadedTable("t", "", Table(base=Row("a", TAda()), rows=[]))
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-r", table.table.cells(regime.with_clips(found), [0]), [0], None)
    (record,) = current_records(table, regime, "t-r", store)
    assert record.cell.experiment.data == found
    assert current_records(table, regime.but(data__split="2"), "t-r", store) == []


def test_counts_and_checks_are_of_the_clips_that_a_recipe_gives(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.py").write_text(
        '"""Two?"""\nfrom tadaconv.table import Row, Table\nfrom tadaconv.spec import TAda\n'
        'TABLE = Table(base=Row("a", TAda()), rows=[Row("b", TAda(), num_frames=4)])\n'
    )
    regime = Regime(
        summary="", backbone=Backbone(name="tiny"), data=Synthetic(num_frames=8, size=32, num_train=4, num_val=4),
        schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
        recipes=(Recipe(num_frames=4, origin="ours", changes={"data__size": 16}),),
    )  # fmt: skip
    rows = {row.row: row for row in costs("./two.py", regime).rows}
    assert {name: row.scale.clip for name, row in rows.items()} == {"a": (3, 8, 32, 32), "b": (3, 4, 16, 16)}
    base = Row("a", TAda())
    two = LoadedTable("two", "", Table(base, [Row("b", TAda(), num_frames=4)]))
    checked = check(two, regime)
    assert {row.row: row.scale.clip for row in checked.rows} == {"a": (3, 8, 32, 32), "b": (3, 4, 16, 16)}
    small = Recipe(num_frames=4, origin="ours", changes={"data__size": 16, "schedule__norm_batch": 1})
    part = regime.but(recipes=(small,))
    dry_run_cells(two.table.cells(part, [0]))
    assert check(two, part).rows == checked.rows
    with pytest.raises(UserError, match=r"a recipe of the regime: .*norm_batch, 3, is above batch_size"):
        regime.but(recipes=(small.but(changes={"schedule__norm_batch": 3}),))
