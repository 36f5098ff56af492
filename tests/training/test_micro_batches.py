"""Micro-batches against one batch computed by hand, closed forms, and themselves when they are interrupted."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny_clips import TinyClips, TinyNet
from torch import Tensor, nn
from torch.func import functional_call

from tadaconv.models import build
from tadaconv.result import Progress
from tadaconv.spec import Aggregation, Backbone, Context, Schedule, TAda
from tadaconv.training import Fit, fit, smallest_batch
from tadaconv.training.fit import make_optimizer, steps_per_epoch
from tadaconv.training.micro_batches import RunningStatistics, cut, num_micro_batches, random_numbers_of

CPU = torch.device("cpu")
SCHEDULE = Schedule(epochs=2, batch_size=5, lr=0.1, warmup_epochs=0.5, clip_norm=0.5, norm_batch=2)
"""Two steps an epoch of ten clips, each of micro-batches of 2, 2 and 1."""
ACROSS_TIME = TAda(
    context=Context(variation="time_invariant", norm="layer"), aggregation=Aggregation(kind="mix"), init="random"
)


class DoubleClips(TinyClips):
    """The clips in float64, large enough for a backbone where ``side`` says so."""

    def __init__(self, side: int = 2, num_train: int = 10) -> None:
        super().__init__(num_train=num_train)
        self.side = side

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        self.served.append((epoch, indices.tolist()))
        clips, labels = self._clips(indices, (3, 4, self.side, self.side), stream=1 + epoch + 100 * seed)
        return clips.double(), labels


class Norms(nn.Module):
    """Every kind of norm that keeps something of batches: one called twice, one of another momentum, one frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.BatchNorm3d(3)
        self.averaging = nn.BatchNorm3d(3, momentum=None)
        self.strong = nn.BatchNorm3d(3, momentum=1.0)
        self.instance = nn.InstanceNorm3d(3, track_running_stats=True)
        self.batchwise = nn.BatchNorm3d(3, track_running_stats=False)
        self.frozen = nn.BatchNorm3d(3)
        self.fc = nn.Linear(3, 6)
        self.register_buffer("scale", torch.tensor([-math.inf, 0.1]))
        with torch.no_grad():
            for norm in (self.twice, self.averaging, self.strong, self.instance, self.frozen):
                norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
                norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]

    def train(self, mode: bool = True) -> "Norms":
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(self.twice(x) * 2 + 1) + self.averaging(x * x) + self.strong(x + 1)
        y = self.frozen(self.batchwise(y) + self.instance(x))
        scores: Tensor = self.fc(torch.tanh(y).mean((2, 3, 4)))
        return scores


def fit_of(model: nn.Module, schedule: Schedule, source: TinyClips | None = None) -> Fit:
    return Fit(model, source or DoubleClips(), schedule, 5, CPU)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@given(
    momentum=st.floats(0, 1),
    clips=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_statistics_move_as_by_the_closed_form_in_any_order(momentum: float, clips: list[int], order: object) -> None:
    """Against K updates one after the other, of which the k-th weighs its share of the momentum and 1 - m is left."""
    drawn = torch.Generator().manual_seed(len(clips))
    values = torch.randn(len(clips), generator=drawn, dtype=torch.float64)
    before, total = torch.tensor(0.7, dtype=torch.float64), sum(clips)
    running = before.clone()
    for k, value in enumerate(values):
        after = sum(clips[k + 1 :])
        own = momentum * clips[k] / (total - momentum * after)
        running = (1 - own) * running + own * value
    if len(set(clips)) == 1:  # the form for even parts
        own = [(momentum / len(clips)) / (1 - (len(clips) - 1 - k) * momentum / len(clips)) for k in range(len(clips))]
        even = before.clone()
        for weight, value in zip(own, values, strict=True):
            even = (1 - weight) * even + weight * value
        torch.testing.assert_close(even, running, rtol=1e-12, atol=1e-12)

    model = nn.Module()
    model.register_buffer("running_mean", before.clone().view(1))
    statistics = RunningStatistics(model)
    parts = list(enumerate(values))
    order.shuffle(parts)  # type: ignore[attr-defined]
    for k, value in parts:
        model.get_buffer("running_mean").lerp_(value, momentum)
        statistics.add(clips[k] / total)
    statistics.finish()
    torch.testing.assert_close(model.get_buffer("running_mean")[0], running, rtol=1e-12, atol=1e-12)
    by_hand = (1 - momentum) * before + momentum * sum(n * v for n, v in zip(clips, values, strict=True)) / total
    torch.testing.assert_close(running, by_hand, rtol=1e-12, atol=1e-12)


@given(num_clips=st.integers(1, 300), norm_batch=st.integers(0, 40))
def test_micro_batches_are_even_and_hold_every_clip_once(num_clips: int, norm_batch: int) -> None:
    parts = cut(torch.arange(num_clips) * 3, 7, norm_batch)
    sizes = [len(part.indices) for part in parts]
    assert torch.cat([part.indices for part in parts]).tolist() == [3 * i for i in range(num_clips)]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= (norm_batch or num_clips)
    assert len(parts) == num_micro_batches(num_clips, norm_batch) <= (num_clips / norm_batch + 1 if norm_batch else 1)
    assert [(part.number, part.of, part.epoch) for part in parts] == [(i, len(parts), 7) for i in range(len(parts))]
    assert [part.share for part in parts] == [size / num_clips for size in sizes]
    assert math.fsum(part.share for part in parts) == pytest.approx(1, abs=1e-15)


@given(num_train=st.integers(1, 300), batch_size=st.integers(1, 40), norm_batch=st.integers(0, 40))
def test_the_smallest_micro_batch_is_the_smallest_of_the_cut(num_train: int, batch_size: int, norm_batch: int) -> None:
    batches = torch.arange(num_train).tensor_split(steps_per_epoch(num_train, batch_size))
    sizes = [len(part.indices) for batch in batches for part in cut(batch, 0, norm_batch)]
    assert smallest_batch(num_train, batch_size, norm_batch) == min(sizes)
    if num_train > 1 and batch_size > 2 and norm_batch > 2:
        assert min(sizes) > 1


def by_hand(model: nn.Module, source: TinyClips, parts: Sequence[Sequence[int]], epoch: int, seed: int) -> Tensor:
    """The loss of a whole batch, its graph in one piece, each part normalised by itself, with its gradients.

    Statistics are set to the mean, weighted by clips, of what each part alone makes of them.
    """
    buffers = dict(model.named_buffers())
    moved: list[dict[str, Tensor]] = []
    sums = []
    for part in parts:
        own = {name: buffer.clone() for name, buffer in buffers.items()}
        clips, labels = source.train_batch(torch.tensor(part), epoch, seed)
        scores = functional_call(model, {**dict(model.named_parameters()), **own}, (clips,))
        sums.append(F.cross_entropy(scores, labels, reduction="sum"))
        moved.append(own)
    num_clips = sum(map(len, parts))
    loss = torch.stack(sums).sum() / num_clips
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for name, buffer in buffers.items():
            if "running" in name:
                of_parts = [each[name] * len(part) for each, part in zip(moved, parts, strict=True)]
                buffer.copy_(torch.stack(of_parts).sum(0) / num_clips)
            else:
                buffer.copy_(moved[0][name])
    return loss.detach()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "norms": (Norms, 2),
    "tiny": (lambda: TinyNet(dropout=0), 2),
    "aggregation": (lambda: build(Backbone(name="tiny"), ACROSS_TIME, 6, 4), 16),
    "synchronised": (lambda: Synchronised(), 2),
}


class Synchronised(TinyNet):
    """A network whose norms ``convert_sync_batchnorm`` made; on one process they are batch norms."""

    def __init__(self) -> None:
        super().__init__(dropout=0)
        self.norm = nn.SyncBatchNorm.convert_sync_batchnorm(self.norm)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_that_of_the_mean_loss_of_the_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "synchronised":  # they refuse the CPU before they see that there is one process
        monkeypatch.setattr(nn.SyncBatchNorm, "forward", nn.BatchNorm3d.forward)
    make, side = NETWORKS[name]
    schedule = SCHEDULE.but(optimizer="sgd", epochs=1, batch_size=10, norm_batch=4, clip_norm=0.05)
    torch.manual_seed(0)
    found_net = make().double()
    torch.manual_seed(0)
    expected_net = make().double()
    source = DoubleClips(side)
    loop = fit_of(found_net, schedule, source)
    parts = [part.indices.tolist() for part in loop.micro_batches(0)]
    assert list(map(len, parts)) == [4, 3, 3]
    before = {key: value.clone() for key, value in expected_net.state_dict().items()}

    optimizer = make_optimizer(expected_net, schedule)
    for group in optimizer.param_groups:
        group["lr"] = schedule.warmup_lr
    expected_net.train()
    loss = by_hand(expected_net, source, parts, 0, 5)
    norm = nn.utils.clip_grad_norm_(expected_net.parameters(), 0.05)
    assert norm > 0.05
    wanted = gradients(expected_net)
    optimizer.step()

    source.served.clear()
    loop._step()
    assert loop._read_losses() == pytest.approx(float(loss), rel=1e-12)
    assert source.served == [(0, part) for part in parts]
    assert_close(gradients(found_net), wanted)
    found, expected = found_net.state_dict(), expected_net.state_dict()
    assert_close(found, expected)
    moved = {key for key in found if "running" in key and not torch.equal(found[key], before[key])}
    kept = {key for key in found if "running" in key} - moved
    assert moved
    assert {key.partition(".")[0] for key in kept} == ({"frozen"} if name == "norms" else set())
    counts = {key: int(found[key] - before[key]) for key in found if key.endswith("num_batches_tracked")}
    for key, count in counts.items():
        uses = {"twice": 2, "frozen": 0, "instance": 0}
        assert count == (uses.get(key.partition(".")[0], 1) if name == "norms" else 1), key
    if name == "aggregation":
        assert any("bn_pool.running_var" in key for key in moved)


def test_norms_see_a_micro_batch_and_no_more() -> None:
    """The statistics are those of micro-batches: the mean of their variances, not the variance of all."""
    net = nn.BatchNorm3d(3, momentum=1.0).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc = net, nn.Linear(3, 6).double()

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.fc(self.norm(x).mean((2, 3, 4)))
            return scores

    source = DoubleClips()
    loop = fit_of(Net(), SCHEDULE, source)
    indices = [part.indices for part in loop.micro_batches(0)]
    loop._step()
    of_parts = [source.train_batch(part, 0, 5)[0].transpose(0, 1).flatten(1) for part in indices]
    num_clips = [2, 2, 1]
    for buffer, statistic in ((net.running_mean, Tensor.mean), (net.running_var, Tensor.var)):
        expected = sum(n * statistic(x, 1) for n, x in zip(num_clips, of_parts, strict=True)) / 5
        torch.testing.assert_close(buffer, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.running_mean, torch.cat(of_parts, 1).mean(1), rtol=1e-12, atol=1e-12)


def test_sums_over_parts_taken_elsewhere_are_the_step() -> None:
    """Gradients, losses and changes of statistics add up: two processes may share the micro-batches of a step."""
    torch.manual_seed(0)
    whole = Norms().double()
    start = {name: value.clone() for name, value in whole.state_dict().items()}
    loop = fit_of(whole, SCHEDULE.but(clip_norm=None))
    loop.model.train()
    loss = loop._accumulate(loop.micro_batches(0))
    expected = {**gradients(whole), **{n: b - start[n] for n, b in whole.named_buffers() if "running" in n}}
    found: dict[str, Tensor] = {}
    losses = []
    for rank in range(2):
        torch.manual_seed(0)
        net = Norms().double()
        loop = fit_of(net, SCHEDULE)
        loop.model.train()
        losses.append(loop._accumulate(loop.micro_batches(0)[rank::2]))
        for name, change in {
            **gradients(net), **{n: b - start[n] for n, b in net.named_buffers() if "running" in n},
        }.items():  # fmt: skip
            found[name] = found[name] + change if name in found else change
    assert_close(found, expected)
    torch.testing.assert_close(torch.stack(losses).sum(), loss, rtol=1e-12, atol=1e-12)


def trained(
    schedule: Schedule,
    model: nn.Module,
    source: TinyClips | None = None,
    path: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> tuple[dict[str, Tensor], list[float]]:
    """Weights and losses of all steps."""
    losses: list[float] = []

    def note(progress: Progress) -> None:
        losses.append(progress.train_loss)
        if report is not None:
            report(progress)

    Fit(model, source or TinyClips(), schedule, 5, CPU, "cell", path).run(lambda: 0.0, note)
    return model.state_dict(), losses


def dropping(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return TinyNet(dropout=0.5)


def aggregating(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(Backbone(name="tiny", dropout=0.5), ACROSS_TIME, 6, 4)


class FloatClips(DoubleClips):
    """Clips of 16 px, for a backbone."""

    def __init__(self) -> None:
        super().__init__(side=16)

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        clips, labels = super().train_batch(indices, epoch, seed)
        return clips.float(), labels


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("num_train", [10, 11, 4])
def test_norms_over_the_whole_batch_change_nothing_bit_for_bit(num_train: int) -> None:
    schedule = SCHEDULE.but(batch_size=5, norm_batch=0)
    weights, losses = trained(schedule, dropping(), TinyClips(num_train))
    again, same_losses = trained(schedule.but(norm_batch=5), dropping(), TinyClips(num_train))
    assert losses == same_losses
    assert same(again, weights)
    other, _ = trained(schedule.but(norm_batch=2), dropping(), TinyClips(num_train))
    assert not same(other, weights)


class Interruption(Exception):  # noqa: N818 - stands in for Ctrl-C
    """What stops a run from outside."""


SEVEN = SCHEDULE.but(epochs=1, batch_size=3, norm_batch=2)
"""Seven steps on 20 clips: six of micro-batches of 2 and 1, one of a micro-batch of 2."""


@cache
def undisturbed(make: Callable[[], nn.Module], clips: Callable[[], TinyClips]) -> tuple[dict[str, Tensor], list[float]]:
    weights, losses = trained(SEVEN, make(), clips())
    return weights, losses


def twenty() -> TinyClips:
    return TinyClips(num_train=20)


def twenty_large() -> TinyClips:
    source = FloatClips()
    source.num_train = 20
    return source


@pytest.mark.parametrize(
    ("make", "clips", "stop"),
    [*((dropping, twenty, step) for step in range(1, 8)), *((aggregating, twenty_large, step) for step in (1, 4))],
)
def test_a_run_stopped_at_any_step_of_an_epoch_ends_as_if_it_had_not_been(
    make: Callable[[int], nn.Module],
    clips: Callable[[], TinyClips],
    stop: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", -1.0)
    path = tmp_path / "cell.pt"

    def interrupt(progress: Progress) -> None:
        if progress.step == stop:
            raise Interruption

    with pytest.raises(Interruption):
        trained(SEVEN, make(0), clips(), path, interrupt)
    torch.manual_seed(stop)  # resumed in a process that has drawn other numbers
    weights, losses = trained(SEVEN, make(9), clips(), path)
    expected, all_losses = undisturbed(make, clips)
    assert losses == all_losses[stop:]
    assert same(weights, expected)


def test_random_numbers_follow_from_seed_step_and_micro_batch() -> None:
    def draws(seed: int, step: int, number: int, norm_batch: int = 2) -> tuple[float, ...]:
        part = cut(torch.arange(5), 0, norm_batch)[number]
        before = torch.get_rng_state()
        with random_numbers_of(part, seed, step, CPU):
            found = tuple(torch.rand(3).tolist())
        assert torch.equal(torch.get_rng_state(), before) == (norm_batch > 0)
        return found

    torch.manual_seed(0)
    first = {(seed, step, k): draws(seed, step, k) for seed in (0, 1, 2**62) for step in range(4) for k in range(3)}
    torch.manual_seed(1)
    assert {key: draws(*key) for key in reversed(first)} == first
    assert len(set(first.values())) == len(first)
    torch.manual_seed(0)
    plain = tuple(torch.rand(3).tolist())
    torch.manual_seed(0)
    assert draws(3, 1, 0, norm_batch=0) == plain  # a batch in one piece draws as it always has


def test_random_numbers_of_a_micro_batch_do_not_depend_on_those_before_it() -> None:
    """So that another process may take every second one."""

    def first_gradient(which: slice) -> Tensor:
        loop = fit_of(dropping(), SCHEDULE, TinyClips())
        loop.model.train()
        torch.manual_seed(1)
        parts = loop.micro_batches(0)
        return torch.stack([loop._add_gradients(part) for part in parts[which]])

    assert torch.equal(first_gradient(slice(None))[1::2], first_gradient(slice(1, None, 2)))


def test_one_graph_at_a_time_is_in_memory() -> None:
    """What the graph keeps, counted as it is kept and let go."""
    kept, most = 0, [0]

    class Counted:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal kept
            self.tensor = tensor
            kept += tensor.numel()
            most.append(kept)

        def __del__(self) -> None:
            nonlocal kept
            kept -= self.tensor.numel()

    def peak(norm_batch: int) -> int:
        nonlocal kept
        kept = 0
        most.clear()
        loop = fit_of(dropping(), SCHEDULE.but(epochs=1, batch_size=32, norm_batch=norm_batch), TinyClips(32))
        with torch.autograd.graph.saved_tensors_hooks(Counted, lambda counted: counted.tensor):
            loop._step()
        return max(most)

    whole, in_eight = peak(0), peak(4)
    assert in_eight < whole / 4


def test_under_autocast_weights_and_gradients_stay_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "autocast", lambda *_: torch.autocast("cpu", torch.bfloat16))
    schedule = SCHEDULE.but(batch_size=10, norm_batch=5, clip_norm=None)
    torch.manual_seed(0)
    found, expected = TinyNet(dropout=0), TinyNet(dropout=0)
    expected.load_state_dict(found.state_dict())
    source = TinyClips()
    loop = fit_of(found, schedule, source)
    found.train()
    loss = loop._accumulate(loop.micro_batches(0))
    losses = []
    for part in loop.micro_batches(0):
        clips, labels = source.train_batch(part.indices, 0, 5)
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(F.cross_entropy(expected(clips), labels) / 2)
    torch.stack(losses).sum().backward()
    assert float(loss) == pytest.approx(sum(each.item() for each in losses), rel=1e-6)
    for name, gradient in gradients(found).items():
        torch.testing.assert_close(gradient, gradients(expected)[name], rtol=1e-5, atol=1e-6, msg=name)


def test_a_loss_that_is_not_finite_in_one_micro_batch_ends_the_step() -> None:
    class Spoilt(TinyClips):
        def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
            clips, labels = super().train_batch(indices, epoch, seed)
            return clips * (math.nan if len(self.served) == 5 else 1), labels

    with pytest.raises(fit.RunError, match=r"the loss is nan at step 2 of 4 \(epoch 1\)"):
        trained(SCHEDULE, dropping(), Spoilt())


@pytest.mark.parametrize("norm_batch", [1, 2, 3, 4])
def test_without_norms_and_dropout_the_cut_is_not_seen(norm_batch: int) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(48, 6)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.fc(x.flatten(1))
            return scores

    torch.manual_seed(0)
    found, expected = Plain().double(), Plain().double()
    expected.load_state_dict(found.state_dict())
    for model, cut_by in ((found, norm_batch), (expected, 0)):
        fit_of(model, SCHEDULE.but(norm_batch=cut_by)).run(lambda: 0.0)
    assert_close(found.state_dict(), expected.state_dict())
