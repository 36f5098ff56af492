from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tadaconv.reporting.study import importance as fanova
from tadaconv.reporting.study.data import StudyExport, collect, joined
from tadaconv.reporting.study.importance import Importance, fewest_trials, importance, sentences

YES_NO = CategoricalDistribution([True, False])


@pytest.fixture
def scored(make_study):
    """``scored(lines, space)``: an export of finished trials with these parameters and accuracies."""

    def make(lines: list[tuple[dict[str, object], float]], space: dict[str, BaseDistribution]) -> StudyExport:
        loaded, records = make_study(1)
        made = [
            replace(
                records[0], number=i, name=f"trial {i}", params=params, score=top1,
                distributions={name: space[name] for name in params},
            )
            for i, (params, top1) in enumerate(lines)
        ]  # fmt: skip
        return collect(loaded, "quick", made)

    return make


def shares(lines: list[tuple[dict[str, object], float]]) -> dict[str, float]:
    """Main effects over the total variance of a full factorial design, by their definition."""
    top1 = np.array([score for _, score in lines])
    found = {}
    for name in lines[0][0]:
        values = [params[name] for params, _ in lines]
        effect = [top1[[other == value for other in values]].mean() for value in values]
        found[name] = float(np.var(effect) / np.var(top1))
    return found


def factorial(copies: int) -> list[tuple[dict[str, object], float]]:
    """Every combination of three choices; the second and third act together alone."""
    return [
        ({"a": a, "b": b, "c": c}, 50.0 + 6 * a + 4 * (b != c) + 1 * b)
        for a, b, c in product([True, False], repeat=3)
        for _ in range(copies)
    ]


def test_main_effects_are_the_shares_of_the_variance(scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanova, "NUM_SHUFFLES", 1)
    lines = factorial(copies=12)  # so that no forest misses a combination
    found = importance(scored(lines, dict.fromkeys("abc", YES_NO)))
    assert found.why_not is None
    by_name = found.data.set_index("parameter")["importance"]
    assert by_name.to_dict() == pytest.approx(shares(lines), abs=0.03)
    assert by_name.index[0] == "a"
    rest = 100 * (1 - sum(shares(lines).values()))
    assert rest == pytest.approx(30, abs=1)
    (said,) = [line for line in sentences(found) if "interactions" in line]
    assert float(said.split()[1]) == pytest.approx(rest, abs=4)


def test_the_range_is_over_forests_and_holds_the_mean(scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanova, "NUM_SHUFFLES", 1)
    draw = np.random.default_rng(0)
    lines = [(params, top1 + draw.normal()) for params, top1 in factorial(copies=2)]
    frame = importance(scored(lines, dict.fromkeys("abc", YES_NO))).data
    assert (frame["low"] <= frame["importance"]).all()
    assert (frame["importance"] <= frame["high"]).all()
    assert (frame["low"] < frame["high"]).any()


def test_what_matters_stands_above_noise_and_noise_does_not(scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanova, "NUM_FORESTS", 3)
    draw = np.random.default_rng(1)
    space: dict[str, BaseDistribution] = {"a": YES_NO, "b": YES_NO}
    params = [{"a": bool(draw.integers(2)), "b": bool(draw.integers(2))} for _ in range(24)]
    matters = importance(scored([(p, 50.0 + 8 * p["a"] + draw.normal()) for p in params], space))
    opening = "Parameters that explain more of the accuracy than noise, in 24 finished trials"
    assert sentences(matters)[0] == f"{opening}: a."
    noise = importance(scored([(p, 50.0 + draw.normal()) for p in params], space))
    assert sentences(noise)[0] == f"{opening}: none."


def test_a_logarithmic_parameter_is_measured_on_its_scale(scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanova, "NUM_FORESTS", 2)
    monkeypatch.setattr(fanova, "NUM_SHUFFLES", 1)
    draw = np.random.default_rng(2)
    drawn = [(float(draw.uniform(0, 4)), bool(draw.integers(2))) for _ in range(16)]

    def found(on_log: bool) -> Importance:
        wide = FloatDistribution(1.0, 10_000.0, log=True) if on_log else FloatDistribution(0.0, 4.0)
        lines = [({"x": 10**x if on_log else x, "a": a}, 50 + 2 * x + 3 * a) for x, a in drawn]
        return importance(scored(lines, {"x": wide, "a": YES_NO}))

    on_log, on_line = found(True).data, found(False).data
    assert on_log["parameter"].tolist() == on_line["parameter"].tolist()
    for column in ("importance", "low", "high", "noise"):
        assert on_log[column].tolist() == pytest.approx(on_line[column].tolist(), rel=1e-6)


def test_too_few_trials_are_counted(make_study) -> None:
    loaded, records = make_study(8)
    num_finished = sum(record.status == "finished" for record in records)
    found = importance(collect(loaded, "quick", records))
    assert found.data.empty
    assert found.why_not == (
        f"Too few trials to estimate importance: {num_finished} finished trials with an operator plugged in, of 12 "
        "needed."
    )
    assert (fewest_trials(2), fewest_trials(5), fewest_trials(6)) == (10, 10, 12)


def test_what_is_left_out_is_named(scored) -> None:
    draw = np.random.default_rng(3)
    space: dict[str, BaseDistribution] = dict.fromkeys(("a", "fixed", "sometimes"), YES_NO)
    lines: list[tuple[dict[str, object], float]] = [
        ({"a": bool(i % 2), "fixed": True, **({"sometimes": True} if i % 3 else {})}, 50 + draw.normal())
        for i in range(12)
    ]
    found = importance(scored(lines, space))
    assert found.left_out == {
        "fixed": "it has one value in all finished trials",
        "sometimes": "only 8 of 12 finished trials have it",
    }
    assert found.why_not == "Importance compares two parameters or more; 1 varies among all finished trials."
    assert "Left out: sometimes, as only 8 of 12 finished trials have it." in sentences(found)


def test_equal_accuracies_have_nothing_to_explain(scored) -> None:
    lines = [(params, 50.0) for params, _ in factorial(copies=2)]
    assert "no variance to explain" in (importance(scored(lines, dict.fromkeys("abc", YES_NO))).why_not or "")


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([CategoricalDistribution(["a", "b"]), CategoricalDistribution(["a", "b", "c"])], ("a", "b", "c")),
        ([CategoricalDistribution([True, 1]), CategoricalDistribution([True, 1, 1.0])], (True, 1, 1.0)),
        ([IntDistribution(2, 8, step=2), IntDistribution(4, 12, step=4)], (2, 12, 2)),
        ([IntDistribution(1, 5, step=4), IntDistribution(3, 7, step=4)], (1, 7, 2)),
        ([IntDistribution(2, 8, log=True), IntDistribution(4, 16, log=True)], (2, 16, 1)),
        ([FloatDistribution(0.0, 1.0, step=0.5), FloatDistribution(-1.0, 0.5)], (-1.0, 1.0, None)),
        ([FloatDistribution(0.0, 1.0), IntDistribution(0, 1)], None),
        ([], None),
    ],
)
def test_a_space_that_grew_is_joined(parts: list[BaseDistribution], whole: tuple[object, ...] | None) -> None:
    found = joined(parts)
    if whole is None:
        assert found is None
        return
    assert found is not None
    if isinstance(found, CategoricalDistribution):
        assert list(map(repr, found.choices)) == list(map(repr, whole))
        return
    assert (found.low, found.high, found.step) == whole  # type: ignore[attr-defined]
    for part in parts:
        for value in (part.low, part.high):  # type: ignore[attr-defined]
            assert found._contains(found.to_internal_repr(value))


def test_trials_that_plug_nothing_in_teach_nothing_of_parameters(make_study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanova, "NUM_FORESTS", 2)
    monkeypatch.setattr(fanova, "NUM_SHUFFLES", 1)
    loaded, records = make_study(40)
    bare = [r.number for r in records if r.status == "finished" and r.temporal is None]
    whole = importance(collect(loaded, "quick", records))
    without = importance(collect(loaded, "quick", [r for r in records if r.temporal is not None]))
    assert bare
    assert whole.num_bare == len(bare)
    assert whole.num_trials == without.num_trials
    pd.testing.assert_frame_equal(whole.data, without.data)
    assert any("with nothing plugged in" in sentence for sentence in sentences(whole))
