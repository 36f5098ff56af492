"""The learning rate against the closed form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.spec import Schedule
from tadaconv.training import learning_rate


def rates(schedule: Schedule, steps_per_epoch: int) -> list[float]:
    return [learning_rate(schedule, step, steps_per_epoch) for step in range(schedule.epochs * steps_per_epoch)]


def test_known_values() -> None:
    schedule = Schedule(epochs=4, batch_size=1, lr=0.8, warmup_epochs=1, warmup_lr=0.0)
    warm = [0.0, 0.2, 0.4, 0.6]  # four steps an epoch
    half = [0.4 * (1 + math.cos(math.pi * i / 12)) for i in range(12)]
    assert rates(schedule, 4) == pytest.approx(warm + half)
    assert rates(schedule, 4)[4] == 0.8
    assert rates(schedule, 4)[10] == pytest.approx(0.4)  # half way down


@given(
    epochs=st.integers(1, 6),
    warmup=st.floats(0, 1),
    lr=st.floats(1e-3, 1.0),
    warmup_lr=st.floats(0, 1e-3),
    steps_per_epoch=st.integers(1, 30),
)
def test_up_in_a_line_then_down_half_a_cosine(
    epochs: int, warmup: float, lr: float, warmup_lr: float, steps_per_epoch: int
) -> None:
    schedule = Schedule(epochs=epochs, batch_size=1, lr=lr, warmup_epochs=warmup * epochs, warmup_lr=warmup_lr)
    found = rates(schedule, steps_per_epoch)
    turn, total = warmup * epochs * steps_per_epoch, epochs * steps_per_epoch
    for step, rate in enumerate(found):
        if step < turn:
            assert rate == pytest.approx(warmup_lr + (lr - warmup_lr) * step / turn)
        else:
            progress = (step - turn) / max(1, total - turn)
            assert rate == pytest.approx(lr * math.cos(math.pi / 2 * progress) ** 2)  # the half-angle formula
    first_down = math.ceil(turn)
    assert found[:first_down] == sorted(found[:first_down])
    assert found[first_down:] == sorted(found[first_down:], reverse=True)
    assert all(0 <= rate <= lr * (1 + 1e-12) for rate in found)
    assert found[0] == (warmup_lr if turn > 0 else lr)


def test_ends_near_zero() -> None:
    assert rates(Schedule(epochs=10, batch_size=1, lr=1.0, warmup_epochs=1), 20)[-1] < 1e-4


ALL_EPOCHS = Schedule(
    epochs=64, batch_size=128, lr=0.48, warmup_epochs=4, warmup_lr=1e-4, cosine="all_epochs"
)  # of the authors, for Something-Something-V2
RATES = {
    0: 0.0001, 1: 0.118922, 2: 0.237744, 3: 0.356566, 3.5: 0.415977, 4: 0.475388, 8: 0.461731, 16: 0.409706, 32: 0.24,
    48: 0.070294, 60: 0.004612, 63: 0.000289,
}  # fmt: skip
"""By epoch, by hand: 0.48 (1 + cos(pi e / 64)) / 2; below epoch 4 a line from 0.0001 to 0.48 (1 + cos(pi / 16)) / 2."""


@pytest.mark.parametrize(("epoch", "rate"), RATES.items())
def test_a_cosine_over_all_epochs_with_the_warmup_below_it(epoch: float, rate: float) -> None:
    assert learning_rate(ALL_EPOCHS, int(epoch * 10), 10) == pytest.approx(rate, abs=6e-7)


@given(
    epochs=st.integers(1, 6),
    warmup=st.floats(0, 0.99),
    lr=st.floats(1e-3, 1.0),
    warmup_lr=st.floats(0, 1e-3),
    steps_per_epoch=st.integers(1, 30),
)
def test_in_a_line_to_the_cosine_and_along_it(
    epochs: int, warmup: float, lr: float, warmup_lr: float, steps_per_epoch: int
) -> None:
    schedule = Schedule(
        epochs=epochs, batch_size=1, lr=lr, warmup_epochs=warmup * epochs, warmup_lr=warmup_lr, cosine="all_epochs"
    )
    total = epochs * steps_per_epoch
    for step, rate in enumerate(rates(schedule, steps_per_epoch)):
        done = step / total
        if done < warmup:
            met = lr * math.cos(math.pi / 2 * warmup) ** 2  # the half-angle formula
            assert rate == pytest.approx(warmup_lr + (met - warmup_lr) * done / warmup)
        elif done > warmup:
            assert rate == pytest.approx(lr * math.cos(math.pi / 2 * done) ** 2)


def test_without_a_warmup_both_curves_are_one() -> None:
    schedule = Schedule(epochs=3, batch_size=1, lr=0.1)
    assert rates(schedule.but(cosine="all_epochs"), 7) == rates(schedule, 7)
