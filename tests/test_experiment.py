"""Running one experiment: the same one gives the same numbers, whatever runs before, beside or in between."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from support import TINY, smallest
from torch import Tensor, nn

from tadaconv import child
from tadaconv import experiment as experiments
from tadaconv.cli.options import CrewOptions
from tadaconv.data import open_source
from tadaconv.data.prefetch import num_readers, set_num_readers
from tadaconv.data.source import Head, Source, classes_of_heads
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.environment import environment
from tadaconv.errors import RunError, UserError
from tadaconv.experiment import build_model, run
from tadaconv.measure import by_stage, calibrations, inspected_clips
from tadaconv.models import BACKBONES
from tadaconv.result import Progress, Result
from tadaconv.run_options import RunOptions
from tadaconv.scores import Scores, clips_fingerprint, ensemble, read_scores
from tadaconv.spec import Folder, Synthetic, TAda
from tadaconv.training import evaluate, fit
from tadaconv.training.checkpoint import load_weights

MEASURED = {"seconds", "train_clips_per_second", "eval_clips_per_second", "peak_memory_bytes"}


@pytest.fixture(autouse=True)
def _smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "smallest", smallest)


@pytest.fixture
def _readers_as_before() -> Iterator[None]:
    yield
    set_num_readers(None)


@pytest.mark.usefixtures("_readers_as_before")
def test_a_run_reads_by_as_many_readers_as_its_options_have() -> None:
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
        (8, 0, 2, "does not divide the 1 micro-batch of a batch of 8 clips .* is 0.; give 1, or a recipe with another"),
        (8, 3, 2, "does not divide the 3 micro-batches .*; give 1 or 3, or a recipe"),
        (8, 2, 8, "the 4 micro-batches .*; give 1, 2 or 4, or"),
        (8, 8, 3, "does not divide the 1 micro-batch of .*; give 1, or"),
    ],
)
def test_gpus_that_do_not_divide_a_batch_are_refused(batch_size: int, norm_batch: int, gpus: int, message: str) -> None:
    schedule = TINY.schedule.but(batch_size=batch_size, norm_batch=norm_batch)
    with pytest.raises(UserError, match=message) as caught:
        run(TINY.but(schedule=schedule), "cpu", options=RunOptions(gpus_per_cell=gpus))
    assert "\n" not in str(caught.value)


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
    assert through == [(4, True)] * 3 + [(20, False)]
    assert len(precisions) == len(through) + 1
    assert found.environment == {**expected.environment, "compiled": "yes"}
    assert found.model_dump(exclude={*MEASURED, "environment"}) == expected.model_dump(
        exclude={*MEASURED, "environment"}
    )


def test_what_a_device_cannot_do_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--fused-kernels needs Triton and an NVIDIA GPU"):
        CrewOptions(device="cpu", fused_kernels=True).crew("j.log", tmp_path)
    with pytest.raises(UserError, match=r"--fused-kernels needs .* cpu is not one"):
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
    assert result.curve[-1].score == result.top1
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

    def __init__(self, data: Folder, device: torch.device, sharing_with: object = None) -> None:  # noqa: ARG002
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
    assert of_one.curve[-1].score == of_one.top1
    model = build_model(several, len(found.classes))
    model.load_state_dict(load_weights(checkpoint.with_suffix(".weights"), several.key))
    by_hand = evaluate(model, ViewedClips(folder, torch.device("cpu")), 5, torch.device("cpu"))
    assert (found.top1, found.loss) == (by_hand.top1, by_hand.loss)
    assert found.loss != of_one.loss
    again = run(several, "cpu", checkpoint=checkpoint)  # from after the last step
    assert computed(again) == computed(found)


def test_a_curve_of_some_clips_and_a_result_over_all(tmp_path: Path) -> None:
    few = TINY.but(data__num_val=20, schedule__epochs=2, schedule__curve_clips=7)
    every = few.but(schedule__curve_clips=0)
    assert few.curve_has_fewer_clips
    assert few.key != every.key
    assert few.but(schedule__curve_clips=20).key == every.key
    checkpoint = tmp_path / "cell.pt"
    of_few, of_all = run(few, "cpu", checkpoint=checkpoint), run(every, "cpu")
    assert (of_few.score, of_few.loss, of_few.num_val) == (of_all.score, of_all.loss, 20)
    model = build_model(few, len(of_few.classes))
    model.load_state_dict(load_weights(checkpoint.with_suffix(".weights"), few.key))
    source = SyntheticClips(few.data, torch.device("cpu"))
    whole = evaluate(model, source, 5, torch.device("cpu"))
    chosen = inspected_clips(20, 7)
    correct = whole.probabilities.argmax(1) == whole.labels[:, 0]
    assert of_few.curve[-1].score == pytest.approx(100 * correct[chosen].double().mean())
    assert of_all.curve[-1].score == of_all.score
    again = run(few, "cpu", checkpoint=checkpoint)  # from after the last step
    assert computed(again) == computed(of_few)


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
    assert found.curve[-1].score == found.top1


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    result = run(TINY, "cuda")
    assert result.environment["cuda"] == torch.version.cuda
    assert math.isfinite(result.loss)
    assert result.params == run(TINY.but(schedule__epochs=1), "cpu").params
