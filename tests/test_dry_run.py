"""What cannot run is found out before anything is queued, without memory or arithmetic."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import TINY, smallest

from tadaconv import dry_run as dry_runs
from tadaconv.data import open_source
from tadaconv.dry_run import dry_run
from tadaconv.errors import UserError
from tadaconv.execution.launcher import Crew
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.experiment import build_model
from tadaconv.locations import resolve_data
from tadaconv.models import BACKBONES, third_party
from tadaconv.regime import Regime
from tadaconv.sequential import SeedDesign
from tadaconv.spec import Backbone, Context, Experiment, Folder, Rival, Schedule, TAda, Temporal
from tadaconv.table import LoadedTable, Row, Table
from tadaconv.table_run import run_table
from tadaconv.training import fit
from tadaconv.weights import resolve_weights


@pytest.fixture(autouse=True)
def _smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "smallest", smallest)


def test_a_dry_run_finds_what_cannot_run_and_draws_nothing() -> None:
    good = TINY
    state = torch.random.get_rng_state()
    dry_run(good)
    assert torch.equal(torch.random.get_rng_state(), state)
    for changes, message in [
        ({"backbone__name": "tniy"}, "unknown backbone 'tniy'; one of: tiny"),
        ({"temporal": Rival(name="tms")}, "unknown rival 'tms'; one of: tsm"),
        ({"temporal": Rival(name="tsm", options={"shear": 1})}, "unknown option of this rival 'shear'"),
        ({"temporal": TAda().but(placement__convs="temporal")}, "selects no convolution of this backbone"),
        ({"backbone__name": "slowfast_8x8", "data__num_frames": 6}, "4 frames, not of 6"),
        ({"backbone__name": "convnext_tiny"}, "'convnext_tiny' cannot take clips of 4 frames at 16 px"),
    ]:
        with pytest.raises(UserError, match=message):
            dry_run(good.but(**changes))
    for norm_batch in (1, 2, 5):
        dry_run(good.but(schedule__norm_batch=norm_batch))


@pytest.mark.parametrize(
    ("temporal", "takes_one_clip"),
    [
        (None, True),
        (TAda(), True),
        (TAda(context=Context(variation="time_invariant")), False),
        (TAda(context=Context(variation="time_invariant", norm="layer")), True),
        (Rival(name="tam"), True),
    ],
)
def test_a_dry_run_refuses_the_batches_of_one_clip_that_training_refuses(
    temporal: Temporal, takes_one_clip: bool
) -> None:
    refused = {}
    for num_train, batch_size in [(3, 2), (4, 2), (2, 1), (1, 4)]:
        experiment = TINY.but(
            temporal=temporal, data__num_train=num_train, schedule__batch_size=batch_size, schedule__epochs=1
        )
        source = open_source(experiment.data, torch.device("cpu"))
        training = fit.Fit(build_model(experiment, 10), source, experiment.schedule, 0, torch.device("cpu"))
        state = torch.random.get_rng_state()
        try:
            dry_run(experiment)
        except UserError as error:
            refused[num_train, batch_size] = str(error)
        assert torch.equal(torch.random.get_rng_state(), state)
        if (num_train, batch_size) in refused:
            with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
                training.run(lambda: 0.0)
        else:
            training.run(lambda: 0.0)
    assert set(refused) == (set() if takes_one_clip else {(3, 2), (2, 1), (1, 4)})
    for (num_train, batch_size), message in refused.items():
        clips = f"{num_train} training clip{'s' if num_train > 1 else ''}"
        assert message.startswith(
            f"an epoch of {clips}, cut into batches of at most {batch_size}, has one of a single clip"
        )
        assert message.endswith("give more clips" if num_train == 1 else "schedule.batch_size to 3 or more")


def test_a_dry_run_refuses_the_micro_batches_of_one_clip_that_training_refuses() -> None:
    refused = {}
    cuts = [
        (6, 3, 2),
        (8, 4, 2),
        (8, 4, 1),
        (9, 5, 4),
        (9, 5, 3),
        (7, 4, 3),
        (8, 2, 1),
        (3, 2, 2),
        (1, 4, 2),
        (4, 3, 3),
    ]
    for num_train, batch_size, norm_batch in cuts:
        experiment = TINY.but(
            temporal=TAda(context=Context(variation="time_invariant")), data__num_train=num_train,
            schedule__batch_size=batch_size, schedule__norm_batch=norm_batch, schedule__epochs=1,
        )  # fmt: skip
        source = open_source(experiment.data, torch.device("cpu"))
        training = fit.Fit(build_model(experiment, 10), source, experiment.schedule, 0, torch.device("cpu"))
        try:
            dry_run(experiment)
        except UserError as error:
            refused[num_train, batch_size, norm_batch] = str(error)
            with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
                training.run(lambda: 0.0)
        else:
            training.run(lambda: 0.0)
    part = r"an epoch of {} training clips, cut into batches of at most {} and these into micro-batches of at most {}, "
    part += r"has one of a single clip, .*; set the regime's schedule.batch_size and schedule.norm_batch to 3 or more$"
    for cut in ((6, 3, 2), (8, 4, 1), (8, 2, 1), (3, 2, 2)):
        assert re.match(part.format(*cut), refused.pop(cut))
    assert refused.pop((1, 4, 2)).endswith("; give more clips")
    assert refused == {}


def test_a_batch_of_one_clip_of_a_folder_is_found_without_opening_a_clip(tmp_path: Path) -> None:
    for name in ("train/a/0.mp4", "train/a/1.mp4", "train/b/0.mp4", "val/a/2.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clips = Folder(num_frames=4, size=16, root=str(tmp_path), fingerprint="f", num_classes=2)
    once = TINY.but(data=clips, temporal=TAda(context=Context(variation="time_invariant")))
    with pytest.raises(UserError, match="an epoch of 3 training clips, cut into batches of at most 2, has one"):
        dry_run(once.but(schedule__batch_size=2))
    dry_run(once.but(schedule__batch_size=3))
    dry_run(once.but(schedule__batch_size=2, data__root=""))  # not yet named, and so not known
    with pytest.raises(UserError, match="cut into batches of at most 1, has one of a single clip"):
        dry_run(once.but(schedule__batch_size=1, data__root=""))
    three = once.but(schedule__batch_size=3)
    with pytest.raises(UserError, match=r"of at most 2, has one of a single clip.*schedule.norm_batch to 3 or more$"):
        dry_run(three.but(schedule__norm_batch=2))
    dry_run(three.but(schedule__norm_batch=3))
    dry_run(three.but(schedule__norm_batch=2, data__root=""))
    with pytest.raises(UserError, match=r"an epoch, cut into .* micro-batches of at most 1, has one of a single clip"):
        dry_run(three.but(schedule__norm_batch=1, data__root=""))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The weights that dry runs read, one entry each time."""
    read: list[str] = []
    real = dry_runs.read_weights

    def counted(backbone: Backbone) -> object:
        read.append(backbone.weights)
        return real(backbone)

    monkeypatch.setattr(dry_runs, "read_weights", counted)
    dry_runs._shapes_of_weights.cache_clear()
    yield read
    dry_runs._shapes_of_weights.cache_clear()


def with_weights(file: Path, content: object) -> Experiment:
    torch.save(content, file)
    return TINY.but(backbone=resolve_weights(TINY.backbone.but(weights=str(file))))


def test_a_dry_run_reads_a_file_of_weights_once_for_all_rows(reads: list[str], tmp_path: Path) -> None:
    good = with_weights(tmp_path / "weights.pth", BACKBONES["smallest"](5, 0.0).state_dict())
    for temporal in (None, TAda(), Rival(name="tsm")):
        dry_run(good.but(temporal=temporal))
        build_model(good.but(temporal=temporal), 10)
    assert len(reads) == 1
    with pytest.raises(UserError, match=r"these weights are of another architecture; .* unexpected: conv1\.weight,"):
        dry_run(good.but(backbone__name="tiny_convnext_clip", data__size=32))
    assert len(reads) == 1
    with pytest.raises(UserError, match="have changed since this was planned"):
        dry_run(good.but(backbone__weights_fingerprint="0" * 16))


def test_a_dry_run_refuses_weights_that_cannot_be_had(
    reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="contains more than tensors"):
        dry_run(with_weights(tmp_path / "code.pth", {"conv1.weight": Path("code")}))
    state = BACKBONES["smallest"](10, 0.0).state_dict()
    with pytest.raises(UserError, match=r"'bn1\.bias' in these weights is not finite"):
        dry_run(with_weights(tmp_path / "nan.pth", state | {"bn1.bias": torch.full((16,), torch.nan)}))

    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(third_party, "import_module", missing)
    with pytest.raises(UserError, match=r"timm cannot be imported .*: pip install"):
        dry_run(TINY.but(backbone__weights="timm:resnet18"))
    assert len(reads) == 3


def test_weights_that_do_not_fit_one_row_stop_a_table_before_anything_is_queued(
    reads: list[str], tmp_path: Path
) -> None:
    backbone = with_weights(tmp_path / "weights.pth", BACKBONES["smallest"](10, 0.0).state_dict()).backbone
    regime = Regime(summary="Small.", backbone=backbone, data=TINY.data, schedule=TINY.schedule)
    other = Row("another backbone", TAda(), backbone="tiny")
    loaded = LoadedTable("t", "?", Table(Row("fits", None), [Row("fits too", TAda()), other]))
    store = Store.open(str(tmp_path / "journal.log"))
    with pytest.raises(UserError, match=r"^row 'another backbone': these weights are of another architecture; ") as e:
        run_table(
            loaded,
            resolve_data(regime, None, tmp_path),
            "t-small",
            store,
            design=SeedDesign(first=1, last=1, smallest=1.0),
            rows=None,
            crew=Crew(WorkerCall(store.shown, "", "cpu", tmp_path)),
            show=lambda _: pytest.fail("something was queued"),
        )
    assert "\n" not in str(e.value)
    assert not store.attempts()
    assert len(reads) == 1


def test_a_network_that_cannot_take_the_crops_of_evaluation_is_refused_before_anything_runs() -> None:
    data = Folder(root="/clips", fingerprint="ab12", num_classes=2, num_frames=4, size=32, short_side=32)
    experiment = Experiment(
        backbone=Backbone(name="convnext_tiny"), data=data, schedule=Schedule(epochs=1, batch_size=4, lr=0.1)
    )
    dry_run(experiment)
    with pytest.raises(UserError, match="cannot take clips of 4 frames at 16 px"):
        dry_run(experiment.but(data__eval_size=16))
