"""Made-up results: a table's cell records without any training."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import optuna
import pytest

from tadaconv.execution.cells import Cell, CellRecord, Status
from tadaconv.regime import Regime
from tadaconv.regimes.quick_localize import REGIME as QUICK_LOCALIZE
from tadaconv.result import CurvePoint, DetectionScores, OrderBlind, Result, StageCalibration
from tadaconv.spec import Backbone, Context, Placement, Rival, Schedule, Synthetic, TAda, Temporal
from tadaconv.study import Budget, LoadedStudy, Study, Suggestion, TrialRecord, walk
from tadaconv.table import Claim, LoadedTable, PaperResult, Row, Table

REGIME = Regime(
    summary="made up",
    backbone=Backbone(name="resnet_tiny"),
    data=Synthetic(num_train=1024, num_val=512),
    schedule=Schedule(epochs=6, batch_size=32, lr=0.1),
)
ENVIRONMENT = {"device": "cpu", "tadaconv": "0.1.0", "torch": "2.9.0", "python": "3.11.7"}


def tada(kernels: tuple[int, ...], global_descriptor: bool = False) -> TAda:
    return TAda(context=Context(kernels=kernels, global_descriptor=global_descriptor))


CONTEXT_ROWS: list[tuple[str, Temporal, float, int]] = [
    ("no calibration (TSN)", None, 41.0, 10_240_000),
    ("linear 1", tada((1,)), 43.5, 10_301_000),
    ("linear 3", tada((3,)), 62.0, 10_310_000),
    ("(1,1)", tada((1, 1)), 44.2, 10_300_500),
    ("(3,1)", tada((3, 1)), 66.1, 10_305_000),
    ("(1,3)", tada((1, 3)), 66.9, 10_305_000),
    ("(3,3)", tada((3, 3)), 70.2, 10_309_000),
    ("linear 1 + global", tada((1,), True), 52.5, 10_303_000),
    ("(1,1) + global", tada((1, 1), True), 54.0, 10_302_000),
    ("(3,3) + global", tada((3, 3), True), 71.4, 10_311_000),
]
"""Row, what it plugs in, a plausible top-1 in percent and multiply-adds."""

CLAIMS = [
    Claim("larger temporal kernels in the context help", "(3,3) + global", "(1,1) + global", "paper, section 5"),
    Claim("the global descriptor helps", "(3,3) + global", "(3,3)", "paper, section 5"),
    Claim("a non-linear context beats a linear one", "(3,3)", "linear 3", "paper, section 5"),
    Claim("one frame is enough", "(1,1)", "(3,3)", "made up"),
]


CLASSES = {f"class {i}": ("frame", "set", "order")[i // 4] for i in range(12)}
"""Every class with its family."""


def confusion(top1: float, num_val: int) -> list[tuple[int, int, int]]:
    """Pairs that fit the accuracy, as far as whole clips do: what is missed is taken for the next class."""
    pairs = []
    for i in range(len(CLASSES)):
        clips = num_val // len(CLASSES) + (i < num_val % len(CLASSES))
        hits = round(clips * min(top1, 100.0) / 100) if top1 == top1 else 0
        pairs += [(i, i, hits), (i, (i + 1) % len(CLASSES), clips - hits)]
    return [pair for pair in pairs if pair[2]]


def result(top1: float, params: int = 171_000, macs: int = 10_300_000, **changes: object) -> Result:
    curve = [
        CurvePoint(epoch=e, step=32 * e, train_loss=2.5 * 0.7**e, score=8 + (top1 - 8) * (1 - 0.45**e) / (1 - 0.45**6))
        for e in range(1, 7)
    ]
    values = {
        "top1": top1, "top5": min(100.0, top1 + 25), "loss": 1.1, "num_val": 512, "curve": curve,
        "per_class": dict.fromkeys(CLASSES, top1), "classes": list(CLASSES), "confusion": confusion(top1, 512),
        "family_classes": {each: [c for c, f in CLASSES.items() if f == each] for each in ("frame", "set", "order")},
        "per_family": {"frame": min(100.0, top1 + 20), "set": top1, "order": max(0.0, top1 - 20)},
        "params": params, "macs": macs, "cost": {}, "train_clips_per_second": 210.0, "eval_clips_per_second": 800.0,
        "peak_memory_bytes": 400_000_000, "seconds": 41.5, "environment": ENVIRONMENT,
    }  # fmt: skip
    return Result.model_validate({**values, **changes})


def loaded_table(rows: list[str], base: str, claims: list[Claim] | None = None) -> LoadedTable:
    """A table with these rows, each different."""
    made = {name: Row(name, tada((1, 1)).but(context__reduction=i + 1)) for i, name in enumerate(rows)}
    table = Table(base=made[base], rows=[row for name, row in made.items() if name != base], claims=claims or [])
    return LoadedTable("made_up", "Does it matter?\n\nA table made up for a test.", table)


def record(row: Row, seed: int, top1: float | None, status: Status = "finished", **changes: object) -> CellRecord:
    """A cell of ``row``; without ``top1`` it has no result and the given status."""
    cell = Cell(row.name, REGIME.experiment(row.temporal, seed))
    if top1 is None:
        status = "missing" if status == "finished" else status
        error = "RunError: the loss is not finite at step 40" if status == "failed" else None
        return CellRecord(cell, status, None, error, f"Traceback ...\n{error}" if error else None)
    made = result(top1, **changes)
    if isinstance(row.temporal, TAda):
        made = made.model_copy(update={"curve": [calibrated(point) for point in made.curve]})
    ended = datetime(2026, 3, 1, 12, seed % 60, tzinfo=UTC)
    return CellRecord(cell, status, made, started=ended - timedelta(seconds=41.5), ended=ended, worker="w0 on lab")


def calibrated(point: CurvePoint) -> CurvePoint:
    """The point with calibrations that move away from one, in later stages further."""
    stages = {
        f"res{stage}": StageCalibration(distance=0.02 * stage * point.epoch, over_time=0.01 * stage, over_clips=0.005)
        for stage in (2, 3, 4, 5)
    }
    return point.model_copy(update={"calibration": stages})


def records_of(loaded: LoadedTable, scores: Mapping[str, list[float | None]]) -> list[CellRecord]:
    """One record a row and seed; None is a failed cell."""
    return [
        record(loaded.table.row(name), seed, top1, "failed" if top1 is None else "finished")
        for name, values in scores.items()
        for seed, top1 in enumerate(values)
    ]


def context_table() -> LoadedTable:
    rows = [Row(name, temporal) for name, temporal, _, _ in CONTEXT_ROWS]
    rows[-1] = Row(
        rows[-1].name,
        rows[-1].temporal,
        PaperResult(64.0, "paper, table 8", "Something-Something-V2", 8, "2 clips x 3 crops", 43.1),
    )
    question = (
        "Does the context need its neighbours in time?\n\n"
        "Paper section 5, calibration weight generation.   Run: tada ablate context"
    )
    return LoadedTable("context", question, Table(base=rows[-1], rows=rows[:-1], claims=CLAIMS))


def context_records(num_seeds: int = 3) -> list[CellRecord]:
    """The ten rows of the context table with plausible numbers that differ from seed to seed."""
    table, draw = context_table().table, np.random.default_rng(7)
    records = []
    for seed in range(num_seeds):
        shift = draw.normal(0, 1.0)
        for name, _, top1, macs in CONTEXT_ROWS:
            score = round(512 * (top1 + shift + draw.normal(0, 1.1)) / 100) / 512 * 100
            families = {
                "frame": 78 + draw.normal(),
                "set": 60 + 18 * ("global" in name) + draw.normal(),
                "order": score - 20,
            }
            made = record(table.row(name), seed, score, macs=macs, params=171_000 + macs // 500, per_family=families)
            records.append(made)
    return records


@pytest.fixture
def make_result() -> Callable[[float], Result]:
    """``make_result(70.0)``: what a cell of that accuracy could have come to."""
    return result


@pytest.fixture
def make_record() -> Callable[..., CellRecord]:
    """``make_record(row, seed, 70.0)``: a finished cell of a row, in the made-up regime."""
    return record


@pytest.fixture
def context() -> tuple[LoadedTable, list[CellRecord]]:
    return context_table(), context_records()


Factory = Callable[..., tuple[LoadedTable, list[CellRecord]]]


@pytest.fixture(scope="session")
def make_up() -> Factory:
    """``make_up({"row": [70.0, None], "base": [71.0, 72.0]}, base="base")``: a table and its records; None failed."""

    def make(
        scores: Mapping[str, list[float | None]], base: str = "base", claims: list[Claim] | None = None
    ) -> tuple[LoadedTable, list[CellRecord]]:
        loaded = loaded_table(list(scores), base, claims)
        return loaded, records_of(loaded, scores)

    return make


@pytest.fixture
def made_up(make_up: Factory) -> Factory:
    return make_up


HOSTS = ("slow_only_8x8", "slowfast_4x16", "r2plus1d", "r3d")
"""Backbones of the rows of :func:`hosts_table`; at the regime's scale a tiny one stands in for the first."""


def hosts_table(length: int) -> LoadedTable:
    """Eleven rows on four backbones, each plug-in compared with its host; names are ``length`` characters or more."""

    def named(name: str) -> str:
        return f"{name}{', which is long' * length}"[: max(length, len(name))].rstrip(" ,")

    rows = []
    for i, host in enumerate(HOSTS):
        num_frames = 32 if host == "slowfast_4x16" else 8
        rows.append(Row(named(host), None, None, host, num_frames))
        for kind in ("cin", "cout") if i < 3 else ("cin",):
            paper = PaperResult(75.85, "paper, table 3", "Kinetics-400", num_frames, "10 clips x 3 crops", 54, 35.6)
            temporal = Rival(name="tsm") if kind == "cout" and i == 0 else TAda(calibration=kind)
            rows.append(Row(named(f"{host} + {kind}"), temporal, paper, host, num_frames, named(host)))
    return LoadedTable("hosts", "Does it help every host?", Table(base=rows[0], rows=rows[1:]))


def hosts_records(loaded: LoadedTable) -> list[CellRecord]:
    """Three seeds of every row of a :func:`hosts_table`, one cell of it failed."""
    regime, draw, records = REGIME.but(stand_ins={"slow_only_8x8": "tiny"}), np.random.default_rng(5), []
    for seed in range(3):
        for i, row in enumerate(loaded.table.all_rows):
            top1, macs = 60 + draw.normal(), 36_000_000 + 100_000 * (i // 3)
            records.append(CellRecord(row.cell(regime, seed), "finished", result(top1, macs=macs)))
    records[5] = CellRecord(records[5].cell, "failed", None, "RunError: the loss is not finite at step 40", "Traceback")
    return records


@pytest.fixture(scope="session")
def make_hosts() -> Callable[[int], tuple[LoadedTable, list[CellRecord]]]:
    """``make_hosts(length)``: a :func:`hosts_table` whose names are about that long, and its records."""

    def make(length: int) -> tuple[LoadedTable, list[CellRecord]]:
        loaded = hosts_table(length)
        return loaded, hosts_records(loaded)

    return make


@pytest.fixture
def hosts(make_hosts: Callable[[int], tuple[LoadedTable, list[CellRecord]]]) -> tuple[LoadedTable, list[CellRecord]]:
    return make_hosts(0)


# A design study


def suggest(trial: optuna.Trial) -> TAda | None:
    """Four stages, a reduction on a logarithmic scale, and a global descriptor only where the context is not linear."""
    stages = tuple(s for s in (2, 3, 4, 5) if trial.suggest_categorical(f"stage{s}", [True, False]))
    kernels = trial.suggest_categorical("kernels", ["1,1", "3,3", "3"])
    reduction = trial.suggest_int("reduction", 2, 16, log=True)
    descriptor = trial.suggest_categorical("global", [True, False]) if kernels != "3" else False
    if not stages:
        return None
    sizes = tuple(int(kernel) for kernel in kernels.split(","))
    context = Context(kernels=sizes, reduction=reduction, global_descriptor=descriptor)
    return TAda(context=context, placement=Placement(stages=stages))


_PAPER = {
    "stage2": True,
    "stage3": True,
    "stage4": True,
    "stage5": True,
    "kernels": "3,3",
    "reduction": 4,
    "global": True,
}
STUDY = Study(
    suggest,
    start={
        "paper: all stages": _PAPER,
        "paper: stage 5": {**_PAPER, "stage2": False, "stage3": False, "stage4": False},
    },
    base="paper: all stages",
    budget=Budget(relative_macs=1.02),
)
MAX_MACS = 10_310_000
"""The budget of :data:`STUDY` in the made-up regime."""

MakeStudy = Callable[..., tuple[LoadedStudy, list[TrialRecord]]]


def drawn(number: int, draw: np.random.Generator) -> tuple[str, Suggestion]:
    """A configuration of the study: those it names first, then any."""
    started = list(STUDY.started.items())
    if number < len(started):
        return started[number]
    params = {f"stage{s}": bool(draw.integers(2)) for s in (2, 3, 4, 5)}
    params |= {"kernels": ["1,1", "3,3", "3"][draw.integers(3)], "reduction": int(draw.integers(2, 17))}
    params |= {"global": bool(draw.integers(2))} if params["kernels"] != "3" else {}
    return f"trial {number}", next(walk(suggest, params))


def study_records(num_trials: int, seeds: int = 1, noise: float = 1.0, seed: int = 3) -> list[TrialRecord]:
    """Trials of which some are pruned, fail or cost too much; stage 5 and the kernels decide."""
    draw, records = np.random.default_rng(seed), []
    for number in range(num_trials):
        name, made = drawn(number, draw)
        stages = [s for s in (2, 3, 4, 5) if made.params[f"stage{s}"]]
        spent = 6_000 * len(stages) + 4_000 * int(made.params.get("global", False))
        macs = 10_240_000 + spent + (160_000 >> made.params["reduction"]) * len(stages)
        good = 40 + 9 * (5 in stages) + 2 * len(stages) + {"1,1": 0, "3,3": 14, "3": 8}[made.params["kernels"]]
        cells = [Cell(name, REGIME.experiment(made.temporal, s)) for s in range(seeds)]
        scores = [round(512 * (good + noise * draw.normal()) / 100) / 512 * 100 for _ in range(seeds)]
        whole = result(scores[0]).curve
        about = (number, name, made.params, made.distributions, made.temporal)
        if macs > MAX_MACS and number >= 2:
            waiting = tuple(CellRecord(cell, "missing") for cell in cells)
            records.append(TrialRecord(*about, "over budget", waiting, None, macs, "10.33 M of at most 10.31 M", ()))
        elif number % 9 == 5:
            error = "RunError: the loss is not finite at step 40"
            failed = tuple(CellRecord(cell, "failed", None, error, "Traceback") for cell in cells)
            records.append(TrialRecord(*about, "failed", failed, None, macs, error, ()))
        elif number > 4 and scores[0] < 52:
            stopped = tuple(CellRecord(cell, "missing") for cell in cells)
            why = "below the median of 4 trials at epoch 2"
            records.append(TrialRecord(*about, "pruned", stopped, None, macs, why, tuple(whole[:2])))
        else:
            done = tuple(
                CellRecord(cell, "finished", result(score, macs=macs))
                for cell, score in zip(cells, scores, strict=True)
            )
            records.append(
                TrialRecord(*about, "finished", done, sum(scores) / seeds, macs, None, tuple(result(scores[0]).curve))
            )
    return records


@pytest.fixture(scope="session")
def make_study() -> MakeStudy:
    """``make_study(24, seeds=1)``: a study and its records."""

    def make(num_trials: int = 24, **changes: object) -> tuple[LoadedStudy, list[TrialRecord]]:
        question = "Which stages need it?\n\nA study made up for a test."
        return LoadedStudy("placed", question, STUDY), study_records(num_trials, **changes)  # type: ignore[arg-type]

    return make


# Localization

TIOUS = [0.3, 0.4, 0.5, 0.6, 0.7]
ORDER_BLIND = OrderBlind(classes=["grows", "shrinks"], mean=54.8, low=53.3, high=56.1)


def detection(at_half: Mapping[str, float], /, **changes: object) -> DetectionScores:
    """Scores of a cell with these average precisions at tIoU 0.5; at the next threshold they are 0.9 times those."""
    falling = {name: [min(100.0, at * 0.9**step) for step in range(-2, 3)] for name, at in at_half.items()}
    by_tiou = [sum(values) / len(values) for values in zip(*falling.values(), strict=True)]
    score = sum(by_tiou) / len(TIOUS)
    bins = [(0.0, 28.0, 120), (28.0, 44.0, 61), (44.0, None, 70)]
    values = {
        "tious": TIOUS, "by_tiou": by_tiou, "interval": (score - 3.0, score + 4.0), "by_class": falling,
        "average_recall": {number: 90 - 60 / number for number in (1, 5, 10, 50, 100)}, "recall_auc": 81.5,
        "num_segments": 251, "unit": "frames", "order_blind": ORDER_BLIND,
        "by_duration": [
            {"shortest": low, "longest": high, "num_segments": number, "recall": [80.0 + i - 5 * k for k in range(5)]}
            for i, (low, high, number) in enumerate(bins)
        ],
    }  # fmt: skip
    return DetectionScores.model_validate({**values, **changes})


def localized(row: Row, seed: int, scores: DetectionScores) -> CellRecord:
    """A finished cell of ``row`` in the regime quick_localize."""
    score = sum(scores.by_tiou) / len(scores.by_tiou)
    tree = result(50.0).model_dump()
    of_classes = {"top1", "top5", "per_class", "per_family", "classes", "family_classes", "confusion"}
    kept = {name: value for name, value in tree.items() if name not in of_classes}
    curve = [CurvePoint(metric="map", epoch=e, step=9 * e, train_loss=1 / e, score=score * e / 6) for e in range(1, 7)]
    made = {**kept, "metric": "map", "score": score, "num_val": 100, "curve": curve, "detection": scores}
    return CellRecord(Cell(row.name, QUICK_LOCALIZE.experiment(row.temporal, seed)), "finished", Result(**made))


Localized = Callable[[Mapping[str, Sequence[DetectionScores]]], tuple[LoadedTable, list[CellRecord]]]


@pytest.fixture(scope="session")
def make_detection() -> Callable[..., DetectionScores]:
    """``make_detection({"grows": 60.0, "shows a 0": 80.0})``: scores with these average precisions at tIoU 0.5."""
    return detection


@pytest.fixture(scope="session")
def make_localization() -> Localized:
    """``make_localization({"row": [scores, scores], "base": [...]})``: a table whose base is its last row, by seed."""

    def make(scores: Mapping[str, Sequence[DetectionScores]]) -> tuple[LoadedTable, list[CellRecord]]:
        loaded = loaded_table(list(scores), list(scores)[-1])
        cells = [
            localized(loaded.table.row(name), seed, found)
            for name, by_seed in scores.items()
            for seed, found in enumerate(by_seed)
        ]
        return loaded, cells

    return make
