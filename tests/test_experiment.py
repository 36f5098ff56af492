"""Running one experiment: the same one gives the same numbers, whatever runs before, beside or in between."""

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tadaconv
from tadaconv import child
from tadaconv import dry_run as dry_runs
from tadaconv import experiment as experiments
from tadaconv.cli.options import CrewOptions
from tadaconv.data import open_source
from tadaconv.data.prefetch import num_readers, set_num_readers
from tadaconv.data.source import Head, Source, classes_of_heads
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.dry_run import dry_run
from tadaconv.environment import devices_of_cell, environment, resolve_device, source_commit
from tadaconv.errors import RunError, UserError
from tadaconv.execution import Crew, Store, WorkerCall
from tadaconv.experiment import build_model, run
from tadaconv.locations import resolve_data
from tadaconv.measure import by_stage, calibrations, inspected_clips
from tadaconv.models import BACKBONES, foreign
from tadaconv.models.resnet import BasicBlock, ResNet
from tadaconv.regime import Regime
from tadaconv.result import Progress, Result
from tadaconv.run_options import RunOptions
from tadaconv.scores import Scores, clips_fingerprint, ensemble, read_scores
from tadaconv.spec import Backbone, Context, Experiment, Folder, Rival, Schedule, Synthetic, TAda, Temporal
from tadaconv.table import LoadedTable, Row, Table
from tadaconv.table_run import run_table
from tadaconv.training import evaluate, fit
from tadaconv.training.checkpoint import load_weights
from tadaconv.weights import resolve_weights

MEASURED = {"seconds", "train_clips_per_second", "eval_clips_per_second", "peak_memory_bytes"}
TINY = Experiment(
    backbone=Backbone(name="smallest", dropout=0.3),
    temporal=TAda(),
    data=Synthetic(num_frames=4, size=16, num_train=12, num_val=20),
    schedule=Schedule(epochs=2, batch_size=5, lr=0.1, warmup_epochs=0.5),
)


@pytest.fixture(autouse=True)
def _smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small backbone, beside those that ship.

    Sixteen channels are the least: oneDNN spoils memory in the backward pass of a strided 1x1 convolution of fewer
    (uxlfoundation/oneDNN issue 6035).
    """
    monkeypatch.setitem(
        BACKBONES,
        "smallest",
        lambda num_classes, dropout: ResNet(
            BasicBlock, (1, 1, 1, 1), num_classes, widths=(16, 16, 16, 16, 16), small_stem=True, dropout=dropout
        ),
    )


@pytest.fixture
def _readers_as_before() -> Iterator[None]:
    yield
    set_num_readers(None)


@pytest.mark.usefixtures("_readers_as_before")
def test_a_run_reads_by_as_many_readers_as_it_is_told() -> None:
    run(TINY.but(schedule__epochs=1), device="cpu", options=RunOptions(readers=3))
    assert num_readers() == 3


IN_PARTS = TINY.but(backbone__name="tiny", data__num_train=16, data__num_val=7, schedule__batch_size=8).but(
    schedule__norm_batch=2
)


def test_a_cell_on_several_ranks_comes_to_what_it_does_on_one(tmp_path: Path) -> None:
    """Sums of gradients are rounded in another order, and nothing else differs."""
    alone = run(IN_PARTS, device="cpu", checkpoint=tmp_path / "alone.pt")
    reports: list[Progress] = []
    options = RunOptions(gpus_per_cell=2)
    together = run(IN_PARTS, "cpu", reports.append, tmp_path / "together.pt", options)
    assert (together.num_val, together.params, together.macs) == (7, alone.params, alone.macs)
    assert together.loss == pytest.approx(alone.loss, rel=1e-4)
    for ours, other in zip(together.curve, alone.curve, strict=True):
        assert (ours.epoch, ours.step) == (other.epoch, other.step)
        assert ours.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert ours.calibration.keys() == other.calibration.keys()
    assert reports[-1].step == 4
    assert together.environment == {**alone.environment, "gpus_per_cell": "2"}
    assert sorted(path.name for path in tmp_path.glob("together*")) == [
        f"together.{suffix}" for suffix in ("pt", "scores.npz", "weights")
    ]


def test_a_cell_whose_rank_was_killed_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RunOptions(gpus_per_cell=2)
    longer = IN_PARTS.but(schedule__epochs=4)
    undisturbed = run(longer, "cpu", options=options)
    started: list[subprocess.Popen[bytes]] = []
    start = child.start
    monkeypatch.setattr(child, "start", lambda *given: started.append(start(*given)) or started[-1])
    checkpoint = tmp_path / "cell.pt"

    def kill(_: Progress) -> None:
        if checkpoint.exists():
            started[1].kill()

    with pytest.raises(RunError, match=r"rank 1 of 2, on cpu, died \(killed by signal 9"):
        run(longer, "cpu", kill, checkpoint, options)
    assert all(process.poll() is not None for process in started)
    assert 2 <= torch.load(checkpoint)["state"]["step"] < 8
    assert computed(run(longer, "cpu", None, checkpoint, options)) == computed(undisturbed)


@pytest.mark.parametrize(
    ("batch_size", "norm_batch", "gpus", "message"),
    [
        (8, 2, 0, "gpus_per_cell is 0; give 1 or more"),
        (8, 0, 2, "a batch of 8 clips is not divided.*give --gpus-per-cell 1, or set norm_batch"),
        (8, 3, 2, "is 3 micro-batches of at most 3 .*give --gpus-per-cell 1 or 3$"),
        (8, 2, 8, "is 4 micro-batches of at most 2 .*give --gpus-per-cell 1 or 2 or 4$"),
        (8, 8, 3, "is 1 micro-batch of at most 8 .*give --gpus-per-cell 1$"),
    ],
)
def test_gpus_that_cannot_share_a_batch_are_refused(batch_size: int, norm_batch: int, gpus: int, message: str) -> None:
    schedule = TINY.schedule.but(batch_size=batch_size, norm_batch=norm_batch)
    with pytest.raises(UserError, match=message) as caught:
        run(TINY.but(schedule=schedule), "cpu", options=RunOptions(gpus_per_cell=gpus))
    assert "\n" not in str(caught.value)


def test_the_gpus_of_a_cell_follow_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert devices_of_cell("auto", 2) == ["cuda:0", "cuda:1"]
    assert devices_of_cell("cuda:1", 3) == ["cuda:1", "cuda:2", "cuda:3"]
    assert devices_of_cell("cpu", 2) == ["cpu", "cpu"]
    with pytest.raises(UserError, match=r"wants more GPUs than there are: this machine has 4$"):
        devices_of_cell("cuda", 5)
    with pytest.raises(UserError, match="this machine has 1 from cuda:3 on"):
        devices_of_cell("cuda:3", 2)


def test_clips_go_through_the_compiled_network_in_the_precision_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them but those whose calibrations are looked at, which a compiler would not see."""
    through: list[tuple[int, bool]] = []
    precisions: list[str] = []

    class Compiled(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, clips: Tensor) -> Tensor:
            through.append((len(clips), self.model.training))
            scores: Tensor = self.model(clips)
            return scores

    def autocast(_: torch.device, precision: str = "auto") -> AbstractContextManager[None]:
        precisions.append(precision)
        return nullcontext()

    monkeypatch.setattr("tadaconv.training.fit.compiled", Compiled)
    for name in ("tadaconv.training.fit", "tadaconv.training.evaluate", "tadaconv.experiment"):
        monkeypatch.setattr(sys.modules[name], "autocast", autocast)
    experiment = TINY.but(schedule__epochs=1)
    expected = run(experiment, "cpu")
    assert through == []
    assert set(precisions) == {"auto"}
    num_passes = len(precisions)
    precisions.clear()
    found = run(experiment, "cpu", options=RunOptions(compile=True, precision="float32"))
    assert precisions == ["float32"] * num_passes
    assert through == [(4, True)] * 3 + [(5, False)] * 4
    assert len(precisions) == len(through) + 1
    assert found.environment == {**expected.environment, "compiled": "yes"}
    assert found.model_dump(exclude={*MEASURED, "environment"}) == expected.model_dump(
        exclude={*MEASURED, "environment"}
    )


def test_what_a_device_cannot_do_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--fused-kernels are for NVIDIA GPUs"):
        CrewOptions(device="cpu", fused_kernels=True).crew("j.log", tmp_path)
    with pytest.raises(UserError, match=r"--fused-kernels are for NVIDIA GPUs .* there are none for cpu"):
        run(TINY, "cpu", options=RunOptions(fused_kernels=True))


def computed(result: Result) -> dict[str, object]:
    """Everything but what a clock and the operating system tell."""
    return result.model_dump(exclude=MEASURED)


@pytest.fixture(scope="module")
def first() -> Callable[[], Result]:
    results: list[Result] = []

    def get() -> Result:
        if not results:
            results.append(run(TINY, "cpu"))
        return results[0]

    return get


def test_running_twice_gives_the_same_result(first: Callable[[], Result]) -> None:
    torch.rand(7)
    assert computed(run(TINY, "cpu")) == computed(first())


def test_the_result_says_what_was_run(first: Callable[[], Result]) -> None:
    result = first()
    assert [(point.epoch, point.step) for point in result.curve] == [(1, 3), (2, 6)]
    assert result.curve[-1].val_top1 == result.top1
    assert result.num_val == 20
    assert len(result.per_class) == 10
    assert list(result.per_family) == ["frame", "set", "order"]
    assert sum(result.per_class.values()) / 10 == pytest.approx(result.top1)  # two clips a class
    assert 0 <= result.top1 <= result.top5 <= 100
    model = build_model(TINY, 10)
    assert result.params == sum(p.numel() for p in model.parameters())
    assert result.cost["macs"] == result.macs > 0
    assert tuple(result.cost["input_shape"]) == (1, 3, 4, 16, 16)
    assert min(result.train_clips_per_second, result.eval_clips_per_second, result.seconds) > 0
    assert result.environment == environment(torch.device("cpu"))
    assert result.environment["torch"] == torch.__version__


def test_json_round_trip(first: Callable[[], Result]) -> None:
    assert Result.model_validate_json(first().model_dump_json()) == first()


def test_seeds_differ(first: Callable[[], Result]) -> None:
    other = run(TINY.but(seed=1), "cpu")
    assert other.loss != first().loss
    assert other.curve != first().curve
    assert (other.params, other.macs) == (first().params, first().macs)


@pytest.mark.parametrize("change", [{"temporal": None}, {"schedule__lr": 0.2}, {"data__seed": 1}])
def test_what_is_changed_changes_the_result(change: dict[str, object], first: Callable[[], Result]) -> None:
    assert run(TINY.but(**change), "cpu").loss != first().loss


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(TINY.but(schedule__epochs=1), "cpu")
    build_model(TINY, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_leaves_the_global_random_state_alone_too() -> None:
    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        run(TINY, "cpu", stop)
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_of_one_seed_share_the_weights_of_the_backbone() -> None:
    host = build_model(TINY.but(temporal=None), 5).state_dict()
    others = [TAda(), TAda(calibration="cout+k2"), TAda().but(init="random", aggregation__kind="conv")]
    for temporal in others:
        state = build_model(TINY.but(temporal=temporal), 5).state_dict()
        assert set(host) < set(state)
        assert all(torch.equal(state[name], value) for name, value in host.items())
    another_seed = build_model(TINY.but(temporal=None, seed=1), 5).state_dict()
    assert not torch.equal(another_seed["conv1.weight"], host["conv1.weight"])


def test_rows_of_one_seed_see_the_same_clips_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[list[int]] = []
    real = experiments.open_source

    def watched(*arguments: object) -> object:
        source = real(*arguments)  # type: ignore[arg-type]
        train_batch = source.train_batch
        served.append([])
        source.train_batch = lambda indices, epoch, seed: (  # type: ignore[method-assign]
            served[-1].extend(indices.tolist()),
            train_batch(indices, epoch, seed),
        )[1]
        return source

    monkeypatch.setattr(experiments, "open_source", watched)
    for change in ({}, {"temporal": None}, {"seed": 1}):
        run(TINY.but(**change), "cpu")
    assert served[0] == served[1] != served[2]
    assert [len(order) for order in served] == [24] * 3


def test_an_interrupted_run_gives_the_result_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[[], Result]
) -> None:
    for name, seconds in (("CHECKPOINT_SECONDS", -1.0), ("TIMES_A_SAVE", 0.0), ("REPORT_SECONDS", 0.0)):
        monkeypatch.setattr(fit, name, seconds)
    path = tmp_path / "cell.pt"
    for last in (1, 4, 6):

        def stop(progress: Progress, last: int = last) -> None:
            if progress.step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(TINY, "cpu", stop, path)
    assert computed(run(TINY, "cpu", checkpoint=path)) == computed(first())


class ViewedClips(SyntheticClips):
    """Clips of a folder that is not there: as many views of each as it says, every one but the first all noise."""

    def __init__(self, data: Folder, device: torch.device, beside: object = None) -> None:  # noqa: ARG002
        made = Synthetic(num_frames=data.num_frames, size=data.size, num_train=12, num_val=20)
        super().__init__(made, device)
        self.num_views = data.num_temporal_views * data.num_spatial_crops

    def val_batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        clips, labels = super().val_batch(indices)
        noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(int(indices.sum())))
        return torch.cat([clips, *[noise] * (self.num_views - 1)], 1), labels


def test_a_curve_of_one_view_and_a_result_over_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(experiments, "open_source", ViewedClips)
    folder = Folder(fingerprint="ab", num_frames=4, size=16, num_temporal_views=2, num_spatial_crops=3)
    sparse = TINY.schedule.but(epochs=12, evaluate_every=2, curve_views="one")
    several = TINY.but(data=folder, schedule=sparse)
    single = several.but(data__num_temporal_views=1, data__num_spatial_crops=1)
    assert several.curve_has_fewer_views
    assert not single.curve_has_fewer_views
    checkpoint = tmp_path / "cell.pt"
    found, of_one = run(several, "cpu", checkpoint=checkpoint), run(single, "cpu")
    assert [point.epoch for point in found.curve] == [2, *range(3, 13)]
    assert found.curve == of_one.curve
    assert of_one.curve[-1].val_top1 == of_one.top1
    model = build_model(several, len(found.classes))
    model.load_state_dict(load_weights(checkpoint.with_suffix(".weights"), several.key))
    by_hand = evaluate(model, ViewedClips(folder, torch.device("cpu")), 5, torch.device("cpu"))
    assert (found.top1, found.loss) == (by_hand.top1, by_hand.loss)
    assert found.loss != of_one.loss
    again = run(several, "cpu", checkpoint=checkpoint)  # from after the last step
    assert computed(again) == computed(found)


class TwoLabels(SyntheticClips):
    """Clips with two labels: which half of the classes theirs is in, and where in it."""

    def __init__(self, data: Synthetic, device: torch.device) -> None:
        super().__init__(data, device)
        self.size_of_half = -(-len(self.class_names) // 2)
        self.heads = (Head("half", ("first", "second")), Head("place", tuple(map(str, range(self.size_of_half)))))
        self.class_names, self.families = classes_of_heads(self.heads), {}

    def _both(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.stack([labels // self.size_of_half, labels % self.size_of_half], 1)

    def train_batch(self, indices: torch.Tensor, epoch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        clips, labels = super().train_batch(indices, epoch, seed)
        return clips, self._both(labels)

    def val_batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        clips, labels = super().val_batch(indices)
        return clips, self._both(labels)


def test_clips_with_two_labels_give_the_accuracy_of_each_and_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "open_source", TwoLabels)
    found = run(TINY, "cpu")
    assert set(found.per_head) == {"half", "place"}
    assert found.top1 <= min(head.top1 for head in found.per_head.values()) + 1e-9  # of one view, both at once
    assert found.top5 <= 100
    assert len(found.classes) == 2 + TwoLabels(TINY.data, torch.device("cpu")).size_of_half
    assert Result.model_validate_json(found.model_dump_json()) == found
    assert found.curve[-1].val_top1 == found.top1


def test_one_label_has_no_accuracy_of_its_own(first: Callable[[], Result]) -> None:
    assert first().per_head == {}


def test_the_trained_weights_give_the_result_again(tmp_path: Path) -> None:
    result = run(TINY, "cpu", checkpoint=tmp_path / "cell.pt")
    source = open_source(TINY.data, torch.device("cpu"))
    model = build_model(TINY, len(source.class_names))
    model.load_state_dict(load_weights(tmp_path / "cell.weights", TINY.key))
    assert evaluate(model, source, TINY.schedule.batch_size, torch.device("cpu")).loss == pytest.approx(result.loss)
    scores = read_scores(tmp_path / "cell.scores.npz", TINY.key)
    require_scores(scores, source, tmp_path / "cell.weights", result)
    assert scores.clips.tolist() == []
    clips, _ = source.val_batch(inspected_clips(source.num_val))
    seen, recorded = by_stage(calibrations(model, clips[:, 0])), result.curve[-1].calibration
    assert {name: each.model_dump() for name, each in seen.items()} == {
        name: pytest.approx(each.model_dump(), rel=1e-3) for name, each in recorded.items()
    }
    with pytest.raises(UserError, match="belong to another cell"):
        load_weights(tmp_path / "cell.weights", "0123")
    with pytest.raises(UserError, match="there are no weights at"):
        load_weights(tmp_path / "other.weights", TINY.key)
    (tmp_path / "cell.weights").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(tmp_path / "cell.weights", TINY.key)


def require_scores(scores: Scores, clips: Source, weights: Path, result: Result) -> None:
    """Hold what a run left against its network's probabilities, and against its result."""
    assert list(scores.classes) == list(clips.class_names)
    assert scores.fingerprint == clips_fingerprint(TINY)
    model = build_model(TINY, len(clips.class_names))
    model.load_state_dict(load_weights(weights, TINY.key))
    batch, labels = clips.val_batch(torch.arange(clips.num_val))
    with torch.no_grad():
        parts = model.eval()(batch[:, 0]).split(list(scores.heads.values()), 1)
    exact = torch.cat([part.softmax(1) for part in parts], 1).numpy()
    assert scores.labels.tolist() == labels.view(clips.num_val, -1).tolist()
    assert scores.probabilities.dtype == np.float16
    assert scores.probabilities == pytest.approx(exact, rel=2**-11 + 1e-4, abs=2**-25)
    found = ensemble({"alone": scores})
    assert (found.top1, found.top5) == pytest.approx((result.top1, result.top5))
    assert found.per_head == result.per_head


def test_the_probabilities_of_two_labels_are_left_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "open_source", TwoLabels)
    monkeypatch.setattr(TwoLabels, "val_names", [f"id {i}" for i in range(20)], raising=False)
    result = run(TINY, "cpu", checkpoint=tmp_path / "cell.pt")
    clips = TwoLabels(TINY.data, torch.device("cpu"))
    scores = read_scores(tmp_path / "cell.scores.npz", TINY.key)
    require_scores(scores, clips, tmp_path / "cell.weights", result)
    assert scores.clips.tolist() == [f"id {i}" for i in range(20)]
    assert list(scores.heads) == ["half", "place"]


@pytest.mark.parametrize(
    ("name", "other", "what"),
    [
        ("cell.scores.npz", "cell.weights", "class probabilities"),
        ("cell.weights", "cell.scores.npz", "weights"),
    ],
)
def test_a_result_outlives_a_file_that_cannot_be_written(
    name: str, other: str, what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).mkdir()  # where the file would be
    assert run(TINY, "cpu", checkpoint=tmp_path / "cell.pt").num_val == 20
    assert caplog.text.count(f"the result is kept, but its {what} are not: ") == 1
    assert (tmp_path / other).is_file()
    assert not list((tmp_path / name).iterdir())


def test_looking_at_calibrations_changes_no_number(
    first: Callable[[], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = [set(point.calibration) for point in first().curve]
    assert looked == [{"res2", "res3", "res4", "res5"}] * TINY.schedule.epochs
    monkeypatch.setattr(experiments, "calibrations", lambda *_: [])
    blind = run(TINY, "cpu")
    seen = [point.model_copy(update={"calibration": {}}) for point in first().curve]
    assert computed(blind) == computed(first().model_copy(update={"curve": seen}))


def git(folder: Path, *words: str) -> str:
    options = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *options, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_the_code_and_whether_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tadaconv"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(tadaconv, "__file__", str(package / "__init__.py"))
    found = source_commit.__wrapped__
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert found() == {"commit": commit}
    (tmp_path / "notes.txt").write_text("not the package's")
    assert found() == {"commit": commit}
    (package / "new.py").write_text("")
    assert found() == {"commit": commit, "dirty": "yes"}


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    run(TINY.but(schedule__epochs=1), "cpu", checkpoint=path)
    with pytest.raises(RunError, match="belongs to another cell"):
        run(TINY.but(schedule__epochs=1, seed=1), "cpu", checkpoint=path)


def test_progress_is_reported_at_the_ends_of_epochs_and_each_second(first: Callable[[], Result]) -> None:
    seen: list[Progress] = []
    run(TINY, "cpu", seen.append)
    assert {(3, 6), (6, 6)} <= {(p.step, p.num_steps) for p in seen}
    assert [p.step for p in seen] == sorted({p.step for p in seen})
    assert seen[-1].curve == first().curve


def test_a_diverging_run_fails_plainly() -> None:
    with pytest.raises(RunError, match=r"loss is (nan|inf)") as error:
        run(TINY.but(schedule__lr=1e30, schedule__warmup_epochs=0), "cpu")
    assert "\n" not in str(error.value)


def test_weights_lost_in_the_last_step_are_no_result() -> None:
    """The loss of the last step was finite, but not the weights it left."""
    once = TINY.but(schedule__epochs=1, schedule__batch_size=12, schedule__warmup_epochs=0, schedule__lr=1e38)
    steps: list[float] = []
    with pytest.raises(RunError, match="the validation loss is nan"):
        run(once, "cpu", lambda progress: steps.append(progress.train_loss))
    assert all(math.isfinite(loss) for loss in steps)


@pytest.mark.parametrize(
    ("norm_batch", "parts", "mend"), [(0, "", "set"), (5, "", "lower"), (2, " in micro-batches of 2", "lower")]
)
def test_out_of_memory_is_a_failure_with_advice(
    norm_batch: int, parts: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nDetails")

    monkeypatch.setattr(experiments, "_train", no_memory)
    with pytest.raises(RunError) as error:
        run(TINY.but(schedule__norm_batch=norm_batch), "cpu")
    assert str(error.value) == (
        f"out of memory on cpu with batches of 5 clips{parts}; lower schedule.batch_size or the clip size, or {mend} "
        "schedule.norm_batch, which trains on fewer clips at a time"
    )


def test_an_unknown_backbone_lists_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"^unknown backbone 'resnt18'; one of: resnet18, "):
        run(TINY.but(backbone__name="resnt18"), "cpu")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("cpu") == resolve_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match=r"^this machine has no usable CUDA device; use --device cpu"):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match=r"^there is no device 'cuda:2'; this machine has 2 CUDA device\(s\)$"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "tpu", "mps", "meta", "CPU"])
def test_an_unknown_device_lists_the_right_ones(name: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_device(name)
    assert str(error.value) == f"unknown device {name!r}; one of: auto, cpu, cuda, cuda:N"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    result = run(TINY, "cuda")
    assert result.environment["cuda"] == torch.version.cuda
    assert math.isfinite(result.loss)
    assert result.params == run(TINY.but(schedule__epochs=1), "cpu").params


def test_a_dry_run_finds_what_cannot_run_and_draws_nothing() -> None:
    good = TINY
    state = torch.random.get_rng_state()
    dry_run(good)
    assert torch.equal(torch.random.get_rng_state(), state)
    for changes, message in [
        ({"backbone__name": "tniy"}, "unknown backbone 'tniy'; one of: tiny"),
        ({"temporal": Rival(name="tms")}, "unknown rival 'tms'; one of: tsm"),
        ({"temporal": Rival(name="tsm", options={"shear": 1})}, "unknown option of this rival 'shear'"),
        ({"temporal": TAda().but(placement__convs="temporal")}, "picks no convolution of this backbone"),
        ({"backbone__name": "slowfast_8x8", "data__num_frames": 6}, "6 frames cannot be divided"),
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
            f"an epoch of {clips}, cut into batches of at most {batch_size}, has a batch of one clip"
        )
        advised = {3: "to 3 or more", 2: "to 2 or more", 1: "give more clips"}
        assert advised[num_train] in message


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
    part += r"has a micro-batch of one clip, .*; set the regime's schedule.norm_batch to {} or more, or to 0$"
    for cut, better in {(6, 3, 2): 3, (8, 4, 1): 2, (8, 2, 1): 2}.items():
        assert re.match(part.format(*cut, better), refused.pop(cut))
    assert "at most 2, has a batch of one clip" in refused.pop((3, 2, 2))
    assert refused.pop((1, 4, 2)).endswith("; give more clips")
    assert refused == {}


def test_a_batch_of_one_clip_of_a_folder_is_found_without_opening_a_clip(tmp_path: Path) -> None:
    for name in ("train/a/0.mp4", "train/a/1.mp4", "train/b/0.mp4", "val/a/2.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clips = Folder(num_frames=4, size=16, root=str(tmp_path), fingerprint="f", num_classes=2)
    once = TINY.but(data=clips, temporal=TAda(context=Context(variation="time_invariant")))
    with pytest.raises(UserError, match="an epoch of 3 training clips, cut into batches of at most 2, has a batch of"):
        dry_run(once.but(schedule__batch_size=2))
    dry_run(once.but(schedule__batch_size=3))
    dry_run(once.but(schedule__batch_size=2, data__root=""))  # not yet named, and so not known
    with pytest.raises(UserError, match="cut into batches of at most 1, has a batch of one clip"):
        dry_run(once.but(schedule__batch_size=1, data__root=""))
    three = once.but(schedule__batch_size=3)
    with pytest.raises(UserError, match=r"of at most 2, has a micro-batch of one clip.*norm_batch to 3 or more, or to"):
        dry_run(three.but(schedule__norm_batch=2))
    dry_run(three.but(schedule__norm_batch=3))
    dry_run(three.but(schedule__norm_batch=2, data__root=""))
    with pytest.raises(UserError, match=r"an epoch, cut into .* of at most 1, has a micro-batch of one clip"):
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
    with pytest.raises(UserError, match=r"these weights are of another architecture: nothing takes conv1\.weight,"):
        dry_run(good.but(backbone__name="tiny_convnext_clip", data__size=32))
    assert len(reads) == 1
    with pytest.raises(UserError, match="have changed since this was planned"):
        dry_run(good.but(backbone__weights_fingerprint="0" * 16))


def test_a_dry_run_refuses_weights_that_cannot_be_had(
    reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="holds more than tensors"):
        dry_run(with_weights(tmp_path / "code.pth", {"conv1.weight": Path("code")}))
    state = BACKBONES["smallest"](10, 0.0).state_dict()
    with pytest.raises(UserError, match=r"'bn1\.bias' in these weights is not finite"):
        dry_run(with_weights(tmp_path / "nan.pth", state | {"bn1.bias": torch.full((16,), torch.nan)}))

    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(foreign, "import_module", missing)
    with pytest.raises(UserError, match="timm is not installed: pip install"):
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
    with pytest.raises(UserError, match=r"^row 'another backbone': these weights are of another architecture: ") as e:
        run_table(
            loaded,
            resolve_data(regime, None, tmp_path),
            "t-small",
            store,
            seeds=[0],
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
