"""Made-up results: a table's cell records without any training."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from tadaconv.ablation import Claim, LoadedTable, PaperResult, Row, Table
from tadaconv.execution.cells import Cell, CellRecord, Status
from tadaconv.regime import Regime
from tadaconv.result import CurvePoint, Result
from tadaconv.spec import Backbone, Context, Rival, Schedule, Synthetic, TAda, Temporal

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


def result(top1: float, params: int = 171_000, macs: int = 10_300_000, **changes: object) -> Result:
    curve = [
        CurvePoint(
            epoch=e, step=32 * e, train_loss=2.5 * 0.7**e, val_top1=8 + (top1 - 8) * (1 - 0.45**e) / (1 - 0.45**6)
        )
        for e in range(1, 7)
    ]
    values = {
        "top1": top1, "top5": min(100.0, top1 + 25), "loss": 1.1, "num_val": 512, "curve": curve,
        "per_class": {f"class {i}": top1 for i in range(12)},
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
    return CellRecord(cell, status, result(top1, **changes))


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
