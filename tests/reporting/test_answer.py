"""The first screen of a page: the answer in a sentence, and all verdicts in a figure."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from matplotlib.collections import PolyCollection

from tadaconv.metrics import METRICS, TOP1
from tadaconv.regime import Recipe, Regime
from tadaconv.reporting.ablation import page as blocks
from tadaconv.reporting.ablation.answer import ORDER, answer, judged
from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.ablation.figures import verdicts
from tadaconv.reporting.ablation.figures.verdicts import LOOKS, verdicts_data
from tadaconv.sequential import SeedDesign
from tadaconv.spec import Backbone, Schedule, Synthetic, TAda
from tadaconv.table import Claim, LoadedTable, Row, Table

DESIGN = SeedDesign(first=3, last=3, smallest=1.0)
REGIME = Regime(
    summary="made up",
    backbone=Backbone(name="resnet_tiny"),
    data=Synthetic(num_train=1024, num_val=512),
    schedule=Schedule(epochs=6, batch_size=32, lr=0.1),
)
KINDS = {
    "supported": [70.0, 71.0, 72.5], "contradicted": [50.0, 51.2, 52.0], "equivalent": [60.1, 60.9, 62.0],
    "undecided": [60.0, 64.0, 61.0], "no result": [None, None, None], "one seed": [65.0, None, None],
}  # fmt: skip
BASE = [60.0, 61.0, 62.05]


def made(make_up, kinds: list[str], *, claims: bool = True):
    """A table of one row a kind, each with a claim that it is above the base."""
    rows = [f"{kind} {i}" for i, kind in enumerate(kinds)]
    scores = {
        row: [None if s is None else s + 0.01 * i for s in KINDS[kind]]
        for i, (row, kind) in enumerate(zip(rows, kinds, strict=True))
    }
    made_claims = [Claim(f"Claim of {row}.", row, "base", "s") for row in rows] if claims else []
    loaded, records = make_up({**scores, "base": BASE}, claims=made_claims)
    return collect(loaded, "quick", records, design=DESIGN)


def verdict_of(kind: str) -> str:
    return kind if kind in ORDER else "undecided"


@settings(deadline=None, max_examples=40)
@given(hs.lists(hs.sampled_from(list(KINDS)), min_size=1, max_size=14))
def test_every_claim_is_named_or_counted(make_up, kinds: list[str]) -> None:
    export = made(make_up, kinds)
    said = answer(export)
    assert said.endswith(".")
    assert ". " not in said, "it is one sentence"
    assert f"{len(kinds)} claim" in said or len(kinds) == 1
    named = re.findall("\u201cClaim of (.+?)\u201d", said)
    assert len(named) == len(set(named))
    counts = {verdict: sum(verdict_of(kind) == verdict for kind in kinds) for verdict in ORDER}
    if counts["undecided"] == len(kinds):
        assert len(kinds) == 1 or "none is decided" in said
        return
    if len(kinds) == 1:
        return
    groups = said.removesuffix(".").split("; ")
    groups[0] = groups[0].partition(", ")[2]
    if num_without := kinds.count("no result"):
        assert groups.pop() == f"{num_without} {'has' if num_without == 1 else 'have'} no result"
        counts["undecided"] -= num_without
    assert [int(group.split()[0]) for group in groups] == [number for number in counts.values() if number]
    for group, (verdict, number) in zip(groups, [c for c in counts.items() if c[1]], strict=True):
        assert verdict in group
        here = re.findall("\u201cClaim of (.+?) \\d+\u201d", group)
        more = re.search(r"(\d+) more$", group)
        assert len(here) + (int(more[1]) if more else 0) == number
        assert {verdict_of(kind) for kind in here} == {verdict}


def test_the_answer_names_the_largest_first_with_its_size(make_up) -> None:
    kinds = ["supported", "undecided", "supported", "contradicted", "equivalent"]
    assert answer(made(make_up, kinds)) == (
        "Of 5 claims, 2 are supported, largest first: \u201cClaim of supported 2\u201d (+10.2 points) and "
        "\u201cClaim of supported 0\u201d (+10.2 points); 1 is equivalent within 1 point: "
        "\u201cClaim of equivalent 4\u201d (+0.02 points); 1 is undecided: "
        "\u201cClaim of undecided 1\u201d (+0.7 points); "
        "1 is contradicted: \u201cClaim of contradicted 3\u201d (\u22129.9 points)."
    )


@pytest.mark.parametrize(
    ("number", "named", "more"), [(4, 4, ""), (5, 5, ""), (6, 4, " and 2 more"), (9, 4, " and 5 more")]
)
def test_few_are_named_and_others_counted(make_up, number: int, named: int, more: str) -> None:
    said = answer(made(make_up, ["supported"] * number))
    assert said.count("Claim of supported") == named
    assert said.removesuffix(".").endswith(more or " points)")


def test_a_difference_that_includes_that_of_recipes_says_so(make_record) -> None:
    rows = [Row("short", TAda()), Row("long", TAda(calibration="cout"), num_frames=16)]
    recipe = Recipe(num_frames=16, origin="paper", changes={"schedule__lr": 0.05})
    regime = REGIME.but(recipes=[recipe])
    loaded = LoadedTable("made_up", "Q?", Table(rows[0], [rows[1]], [Claim("More helps", "long", "short", "s")]))
    records = [
        replace(make_record(row, seed, score), cell=row.cell(regime, seed))
        for row, kind in zip(rows, ("undecided", "supported"), strict=True)
        for seed, score in enumerate(KINDS[kind])
        if score is not None
    ]
    said = answer(collect(loaded, "quick", records, design=DESIGN))
    assert said.startswith("The claim \u201cMore helps\u201d is supported: +9.5 points, across recipes, 95 % interval ")


def test_one_seed_says_that_it_cannot_tell(make_up) -> None:
    assert answer(made(make_up, ["one seed", "one seed"])) == (
        "Of 2 claims, none is decided, as one seed gives no interval (run at least three); the largest differences so "
        "far are those of \u201cClaim of one seed 1\u201d (+5.0 points) "
        "and \u201cClaim of one seed 0\u201d (+5.0 points)."
    )
    said = answer(made(make_up, ["one seed"]))
    assert said == (
        "The claim \u201cClaim of one seed 0\u201d is undecided: +5.0 points, one seed gives no interval; run at least "
        "three."
    )


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([60.0, 64.0, 61.0], [64.0, 60.0, 61.0], "none is decided after 3 seeds; the"),
        ([60.0, None, 61.0], [None, 64.0, 61.0], "none is decided after 2 pairs of 3 seeds; the"),
        ([60.0, 64.0, 61.0], [None, 60.0, 64.0], "none is decided after 2 to 3 pairs of 3 seeds; the"),
        ([60.0, 64.0, 61.0], [None, None, 64.0], "none is decided after 1 to 3 pairs of 3 seeds; the"),
        ([None, 64.0, 61.0], [None] * 3, "none is decided after 2 pairs of 3 seeds; the"),
    ],
)
def test_what_is_undecided_says_after_how_many_pairs(make_up, a, b, said: str) -> None:
    loaded, records = make_up({"a": a, "b": b, "base": BASE})
    assert said in answer(collect(loaded, "quick", records, design=DESIGN))


def test_without_results_there_is_no_answer_yet(make_up) -> None:
    assert "none is decided: no seed has a result of both rows" in answer(made(make_up, ["no result", "no result"]))
    assert verdicts(made(make_up, ["no result"])) is None


def test_rows_are_compared_with_the_base_where_there_are_no_claims(make_up) -> None:
    export = made(make_up, ["contradicted", "supported", "undecided"], claims=False)
    assert answer(export) == (
        "Of 3 rows compared with \u201cbase\u201d, 1 is better: \u201csupported 1\u201d (+10.2 points); "
        "1 is undecided: \u201cundecided 2\u201d (+0.7 points); "
        "1 is worse: \u201ccontradicted 0\u201d (\u22129.9 points)."
    )
    assert answer(made(make_up, ["supported"], claims=False)).startswith(
        "\u201csupported 0\u201d, compared with \u201cbase\u201d, is better: +10.2 points, 95 % interval +"
    )
    drawing = verdicts(export)
    assert drawing is not None
    assert "better \u2192" in drawing.figure.axes[0].get_xlabel()


def test_a_table_of_one_row_has_no_answer(make_up) -> None:
    loaded, records = make_up({"base": BASE})
    export = collect(loaded, "quick", records, design=DESIGN)
    assert answer(export) == ""
    assert verdicts(export) is None
    assert 'class="answer"' not in blocks.headline(export).html


def test_rows_that_are_compared_with_different_rows_name_them(make_up) -> None:
    loaded, records = make_up({"a": KINDS["supported"], "b": KINDS["contradicted"], "base": BASE})
    a, b = loaded.table.rows
    apart = replace(loaded, table=Table(base=loaded.table.base, rows=[a, replace(b, versus="a")]))
    said = answer(collect(apart, "quick", records, design=DESIGN))
    assert said == (
        "Of 2 rows, each compared with a row of its own, 1 is better: "
        "\u201ca\u201d (+10.2 points to \u201cbase\u201d); "
        "1 is worse: \u201cb\u201d (\u221220.1 points to \u201ca\u201d)."
    )


@settings(deadline=None, max_examples=15)
@given(hs.lists(hs.sampled_from(list(KINDS)), min_size=1, max_size=9))
def test_the_figure_has_every_claim_with_its_sign(make_up, kinds: list[str]) -> None:
    export = made(make_up, kinds)
    data = verdicts_data(export)
    assert sorted(data["text"]) == sorted(claim.text for claim in export.manifest.claims)
    order = [ORDER.index(verdict) for verdict in data["verdict"]]
    assert order == sorted(order)
    drawing = verdicts(export)
    if drawing is None:
        assert set(kinds) == {"no result"}
        return
    ax = drawing.figure.axes[0]
    written = [" ".join(text.get_text().split()) for text in ax.texts]
    for line in data.to_dict("records"):
        assert f"{LOOKS[line['verdict']].sign} {line['text'].rstrip('.')}" in written
        assert line["text"].rstrip(".") in drawing.alt
    bands = [collection for collection in ax.collections if isinstance(collection, PolyCollection)]
    assert len(bands) == len(kinds)
    for band in bands:
        across = band.get_paths()[0].vertices[:, 0]
        assert (across.min(), across.max()) == (-1, 1)
    drawn = {round(float(line.get_xdata()[0]), 9) for line in ax.lines}
    assert {round(float(effect), 9) for effect in data["effect"].dropna()} <= drawn


def test_verdicts_differ_without_colour() -> None:
    for words in (
        ("supported", "equivalent", "undecided", "contradicted"),
        ("better", "equivalent", "undecided", "worse"),
    ):
        looks = [LOOKS[word] for word in words]
        assert len({look.sign for look in looks}) == 4
        assert len({(look.marker, look.is_filled) for look in looks}) == 4


def test_better_is_to_the_right_where_lower_is_better(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    lower = replace(TOP1, name="lower", higher_is_better=False, of_classes=False)
    monkeypatch.setitem(METRICS, "lower", lower)
    loaded, records = made_up({"a": KINDS["contradicted"], "base": BASE}, claims=[Claim("a helps", "a", "base", "s")])
    for name, is_turned, verdict in (("top1", False, "contradicted"), ("lower", True, "supported")):
        of_metric = [
            replace(r, result=r.result.model_copy(update={"metric": name})) for r in records if r.result is not None
        ]
        export = collect(loaded, "quick", of_metric, design=DESIGN)
        drawing = verdicts(export)
        assert drawing is not None
        assert drawing.figure.axes[0].xaxis_inverted() == is_turned
        assert f"is {verdict}: \u22129.9 points" in answer(export)


def test_wide_intervals_of_what_is_open_do_not_flatten_the_rest(make_up) -> None:
    loaded, records = make_up(
        {"a": KINDS["supported"], "b": [0.0, 100.0, 70.0], "base": BASE},
        claims=[Claim("a helps", "a", "base", "s"), Claim("b helps", "b", "base", "s")],
    )
    export = collect(loaded, "quick", records, design=DESIGN)
    data = judged(export).set_index("text")
    drawing = verdicts(export)
    assert drawing is not None
    low, high = drawing.figure.axes[0].get_xlim()
    assert data.loc["b helps", "low"] < low
    assert high < data.loc["b helps", "high"]
    assert low < data.loc["a helps", "low"] < data.loc["a helps", "high"] < high
    assert "an arrow is where one continues" in drawing.caption
