"""The training loop against one written out by hand, and against itself when it is interrupted."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count as count_up
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clips import TinyClips, TinyNet
from torch import Tensor, nn

from tadaconv.data.source import Head, classes_of_heads
from tadaconv.errors import RunError
from tadaconv.models import build
from tadaconv.result import CurvePoint, Progress
from tadaconv.spec import Backbone, Schedule, TAda
from tadaconv.training import Fit, State, checkpoint, evaluate, fit, learning_rate, smallest_batch
from tadaconv.training.fit import epoch_order, make_optimizer, steps_per_epoch
from tadaconv.training.task import cross_entropy

CPU = torch.device("cpu")
SGD = Schedule(epochs=3, batch_size=4, lr=0.1, warmup_epochs=0.5, clip_norm=0.5)
ADAMW = SGD.but(optimizer="adamw", lr=0.01, weight_decay=0.1, clip_norm=None)
NUM_STEPS = 9  # ten clips in batches of four, three epochs


class Interruption(Exception):  # noqa: N818 - stands in for Ctrl-C
    """What stops a run from outside."""


def train(
    schedule: Schedule,
    model: nn.Module,
    source: TinyClips,
    *,
    path: Path | None = None,
    report: Callable[[Progress], None] | None = None,
    identity: str = "cell",
) -> State:
    loop = Fit(model, source, schedule, 5, CPU, identity, path)
    return loop.run(lambda: evaluate(model, source, 4, CPU).top1, report)


def make_net(seed: int = 0, dropout: float = 0.5, num_classes: int = 6) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet(num_classes, dropout)


@pytest.mark.parametrize("schedule", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_against_a_plain_loop(schedule: Schedule) -> None:
    source = TinyClips()
    expected_net, found_net = make_net(dropout=0), make_net(dropout=0)
    decayed, others = [expected_net.conv.weight, expected_net.fc.weight], [expected_net.fc.bias]
    others += list(expected_net.norm.parameters())
    optimizer: torch.optim.Optimizer
    if schedule.optimizer == "sgd":
        optimizer = torch.optim.SGD(decayed, 1, momentum=0.9, nesterov=True, weight_decay=schedule.weight_decay)
        optimizer.add_param_group({"params": others, "weight_decay": 0})
    else:
        optimizer = torch.optim.AdamW(decayed, 1, weight_decay=schedule.weight_decay)
        optimizer.add_param_group({"params": others, "weight_decay": 0})
    losses, curve = [], []
    for epoch in range(3):
        weighted = 0.0
        for indices in epoch_order(10, 5, epoch).tensor_split(3):
            clips, labels = source.train_batch(indices, epoch, 5)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(schedule, len(losses), steps_per_epoch=3)
            expected_net.train()
            loss = F.cross_entropy(expected_net(clips), labels)
            optimizer.zero_grad()
            loss.backward()
            if schedule.clip_norm:
                nn.utils.clip_grad_norm_(expected_net.parameters(), schedule.clip_norm)
            optimizer.step()
            losses.append(loss.item())
            weighted += loss.item() * len(indices)
        curve.append((epoch + 1, 3 * (epoch + 1), weighted / 10, evaluate(expected_net, source, 4, CPU).top1))

    seen: list[Progress] = []
    source.served.clear()
    state = train(schedule, found_net, source, report=seen.append)
    assert [progress.train_loss for progress in seen] == pytest.approx(losses)
    assert [(p.epoch, p.step, p.train_loss, p.score) for p in state.curve] == [pytest.approx(p) for p in curve]
    for name, value in found_net.state_dict().items():
        torch.testing.assert_close(value, expected_net.state_dict()[name], msg=name)
    assert [(p.step, p.num_steps, len(p.curve)) for p in seen] == [(s, 9, s // 3) for s in range(1, 10)]
    for epoch in range(3):
        assert sorted(i for e, batch in source.served if e == epoch for i in batch) == list(range(10))


def test_training_learns() -> None:
    source = TinyClips(num_train=60, num_classes=2)
    state = train(ADAMW.but(epochs=10, weight_decay=0.0, lr=0.03), make_net(num_classes=2, dropout=0), source)
    assert state.curve[-1].train_loss < 0.75 * state.curve[0].train_loss


def test_vectors_are_not_decayed() -> None:
    model = build(Backbone(name="tiny"), TAda(), 5)
    matrices, vectors = make_optimizer(model, ADAMW).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    by_id = {id(p): name for name, p in model.named_parameters()}
    decayed = {by_id[id(p)] for p in matrices["params"]}
    spared = {by_id[id(p)] for p in vectors["params"]}
    assert decayed | spared == set(by_id.values())
    norms = {f"{at}." for at, m in model.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}
    for name in by_id.values():
        is_norm = f"{name.rpartition('.')[0]}." in norms
        assert (name in spared) == (is_norm or name.endswith(".bias")), name


def test_optimizers_are_those_the_schedule_names() -> None:
    nesterov = make_optimizer(make_net(), SGD)
    assert isinstance(nesterov, torch.optim.SGD)
    assert (nesterov.defaults["momentum"], nesterov.defaults["nesterov"]) == (0.9, True)
    assert make_optimizer(make_net(), SGD.but(momentum=0.0)).defaults["nesterov"] is False
    assert isinstance(make_optimizer(make_net(), ADAMW), torch.optim.AdamW)


@given(num_train=st.integers(1, 200), seed=st.integers(0, 2**62), epoch=st.integers(0, 1000))
def test_an_epochs_order_is_a_permutation_and_always_the_same(num_train: int, seed: int, epoch: int) -> None:
    before = torch.get_rng_state()
    order = epoch_order(num_train, seed, epoch)
    assert sorted(order.tolist()) == list(range(num_train))
    assert torch.equal(order, epoch_order(num_train, seed, epoch))
    assert torch.equal(torch.get_rng_state(), before)


def test_orders_differ_by_seed_and_epoch() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


@cache
def undisturbed(schedule: Schedule) -> tuple[dict[str, Tensor], list[CurvePoint], list[float]]:
    model, losses = make_net(), list[float]()
    state = train(schedule, model, TinyClips(), report=lambda progress: losses.append(progress.train_loss))
    return model.state_dict(), state.curve, losses


@settings(max_examples=25)
@given(
    schedule=st.sampled_from([SGD, ADAMW]),
    stops=st.lists(st.integers(1, NUM_STEPS), min_size=1, max_size=3),
    every_step=st.booleans(),
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(schedule: Schedule, stops: list[int], every_step: bool) -> None:
    """Stopped at any steps, with a checkpoint at every step or only at the end of every epoch."""
    losses: dict[int, float] = {}

    def report(progress: Progress) -> None:
        assert losses.setdefault(progress.step, progress.train_loss) == progress.train_loss  # a step made twice
        if stops and progress.step == stops[0]:
            stops.pop(0)
            raise Interruption

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "CHECKPOINT_SECONDS", -1.0 if every_step else math.inf)
        path = Path(folder) / "cell.pt"
        for attempt in range(5):
            # A run that finds a checkpoint takes everything from it, whatever it started with.
            model = make_net(seed=attempt if path.exists() else 0)
            try:
                state = train(schedule, model, TinyClips(), path=path, report=report)
                break
            except Interruption:
                continue
    weights, curve, all_losses = undisturbed(schedule)
    assert state.curve == curve
    assert [losses[step] for step in range(1, NUM_STEPS + 1)] == all_losses
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_dropout_makes_the_random_state_matter() -> None:
    """Otherwise the test above would not see whether it is restored."""
    losses: list[float] = []
    torch.manual_seed(0)
    model = TinyNet()
    torch.manual_seed(1)
    train(SGD, model, TinyClips(), report=lambda progress: losses.append(progress.train_loss))
    assert losses != undisturbed(SGD)[2]


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    first = train(SGD, make_net(), TinyClips(), path=tmp_path / "cell.pt")
    source, model = TinyClips(), make_net(seed=9)
    again = train(SGD, model, source, path=tmp_path / "cell.pt")
    assert source.served == []
    assert again == first
    assert all(torch.equal(value, undisturbed(SGD)[0][name]) for name, value in model.state_dict().items())


def test_times_add_up_over_resumptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[int] = count_up()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", -1.0)

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise Interruption

    with pytest.raises(Interruption):
        train(SGD, make_net(), TinyClips(), path=tmp_path / "cell.pt", report=stop)
    state = train(SGD, make_net(), TinyClips(), path=tmp_path / "cell.pt")
    assert state.train_seconds == NUM_STEPS  # one tick of the clock a step
    assert state.seconds == 2 * NUM_STEPS  # and one more with what follows it


def test_without_a_checkpoint_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(SGD, make_net(), TinyClips())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [{"identity": "another cell"}, {"weights": torch.zeros(3)}])
def test_the_checkpoint_of_another_cell_is_refused(content: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    checkpoint.save(path, content)
    before, source = path.read_bytes(), TinyClips()
    with pytest.raises(RunError, match=r"cell.pt belongs to another cell; delete it to start over$"):
        train(SGD, make_net(), source, path=path)
    assert path.read_bytes() == before
    assert source.served == []


class Spoilt(TinyClips):
    """Clips of which one training batch is not finite."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.at, self.value = at, value

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        clips, labels = super().train_batch(indices, epoch, seed)
        return (clips * self.value if len(self.served) == self.at else clips), labels


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("step", "epoch"), [(1, 1), (5, 2)])
@pytest.mark.parametrize("report_seconds", [0.0, math.inf])
def test_a_loss_that_is_not_finite_fails_by_its_step_and_leaves_no_trace(
    value: float, step: int, epoch: int, report_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen at once, or only at the end of the epoch, when further steps have made everything else not finite too."""
    monkeypatch.setattr(fit, "REPORT_SECONDS", report_seconds)
    model, steps, path = make_net(), list[int](), tmp_path / "cell.pt"
    with pytest.raises(RunError) as error:
        train(SGD, model, Spoilt(step, value), path=path, report=lambda progress: steps.append(progress.step))
    assert str(error.value) == (
        f"the loss is nan at step {step} of 9 (epoch {epoch}); "
        "lower the learning rate or clip the gradient norm (schedule.clip_norm)"
    )
    assert steps == [one for one in range(1, step) if report_seconds == 0 or one == 1 or one % 3 == 0]
    assert path.exists() == (step > 3)  # what was finished before is kept
    if path.exists():
        assert all(value.isfinite().all() for value in torch.load(path, weights_only=True)["model"].values())


def test_what_is_reported_and_saved_waits_for_the_device_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    class Slow(TinyClips):
        def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
            now[0] += 0.4  # a step takes as long
            return super().train_batch(indices, epoch, seed)

    saved: list[int] = []
    loop = Fit(make_net(), Slow(), SGD.but(epochs=40), 0, torch.device("cpu"), "", tmp_path / "cell.pt")

    def save(_: Path) -> None:
        saved.append(loop.state.step)
        now[0] += 0.06

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(loop, "_save", save)
    monkeypatch.setattr(fit, "TIMES_A_SAVE", 100.0)
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 30.0)
    reads: list[int] = []
    read = loop._read_losses
    monkeypatch.setattr(loop, "_read_losses", lambda: reads.append(loop.state.step) or read())
    reported: list[int] = []
    loop.run(lambda: 0.0, lambda progress: reported.append(progress.step), report_seconds=1.0)
    assert {3 * epoch for epoch in range(1, 41)} <= set(reported)
    assert all(after - before <= 3 for before, after in pairwise([0, *reported]))
    assert reads == sorted({*reported, *saved})
    assert saved[0] == 3
    assert 0.005 < 0.06 * len(saved) / now[0] < 0.0125  # a hundredth, and the first


@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=9), st.integers(1, 64))
def test_losses_add_up_as_numbers_of_python_do(values: list[float], num_clips: int) -> None:
    loop, total = Fit(make_net(), TinyClips(), SGD, 0, torch.device("cpu")), 0.5
    loop.state.loss_sum = total
    for step, value in enumerate(values, 1):
        loop._losses.append((step, num_clips, torch.tensor(value).double()))
        total += value * num_clips
    assert loop._read_losses() == values[-1]
    assert loop.state.loss_sum == total
    for step, value in ((6, math.inf), (7, math.nan)):
        loop._losses.append((step, 1, torch.tensor(value).double()))
    with pytest.raises(RunError, match=r"the loss is inf at step 6 of 9 \(epoch 2\)"):
        loop._read_losses()


def test_gradients_are_clipped_to_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    class Watching(torch.optim.SGD):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.cat([g.flatten() for g in grads]).norm()))
            super().step(closure)

    monkeypatch.setattr(torch.optim, "SGD", Watching)
    train(SGD.but(clip_norm=0.01), make_net(), TinyClips())
    assert norms == pytest.approx([0.01] * NUM_STEPS, rel=1e-3)


def test_batches_of_an_epoch_are_even_and_hold_every_clip_once() -> None:
    source = TinyClips()
    for batch_size in (3, 4, 7, 9, 10, 64):
        source.served.clear()
        train(Schedule(epochs=1, batch_size=batch_size, lr=0.1), make_net(dropout=0), source)
        sizes = [len(batch) for _, batch in source.served]
        assert sum(sizes) == 10
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) == smallest_batch(10, batch_size)


@given(num_train=st.integers(1, 300), batch_size=st.integers(1, 40))
def test_the_smallest_batch_is_the_smallest_of_the_cut(num_train: int, batch_size: int) -> None:
    batches = torch.arange(num_train).tensor_split(steps_per_epoch(num_train, batch_size))
    assert smallest_batch(num_train, batch_size) == min(map(len, batches))
    if num_train > 1 and batch_size > 2:
        assert smallest_batch(num_train, batch_size) > 1


def test_the_loss_of_two_heads_is_the_sum_of_theirs_on_one_feature() -> None:
    """One linear layer for both heads against two of the same weights, and the gradients of both."""
    torch.manual_seed(0)
    feature = torch.randn(4, 6, dtype=torch.float64)
    labels = torch.tensor([[0, 4], [2, 1], [1, 0], [2, 3]])
    both = nn.Linear(6, 8).double()
    verb, noun = nn.Linear(6, 3).double(), nn.Linear(6, 5).double()
    with torch.no_grad():
        for one, rows in ((verb, slice(0, 3)), (noun, slice(3, 8))):
            one.weight.copy_(both.weight[rows])
            one.bias.copy_(both.bias[rows])
    found = cross_entropy(both(feature), labels, (3, 5))
    expected = F.cross_entropy(verb(feature), labels[:, 0]) + F.cross_entropy(noun(feature), labels[:, 1])
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    assert both.weight.grad is not None
    torch.testing.assert_close(both.weight.grad, torch.cat([verb.weight.grad, noun.weight.grad]))
    one_head = F.cross_entropy(both(feature), labels[:, 0])
    assert torch.equal(cross_entropy(both(feature), labels[:, 0], (8,)), one_head)


def test_two_labels_are_learnt_at_once() -> None:
    class Labelled(TinyClips):
        heads = (Head("parity", ("even", "odd")), Head("third", ("0", "1", "2")))

        def _clips(self, indices: Tensor, shape: tuple[int, ...], stream: int) -> tuple[Tensor, Tensor]:
            clips, labels = super()._clips(indices, shape, stream)
            return clips, torch.stack([labels % 2, labels % 3], 1)

    source, net = Labelled(num_train=24, num_val=24), TinyNet(5, dropout=0)
    source.class_names = classes_of_heads(source.heads)
    source.families = {}
    before = evaluate(net, source, 8, CPU)
    train(SGD.but(epochs=12), net, source)
    after = evaluate(net, source, 8, CPU)
    assert after.loss < before.loss - 0.1
    assert set(after.per_head) == {"parity", "third"}
