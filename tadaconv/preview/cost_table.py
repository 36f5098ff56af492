"""What rows cost, next to what the paper prints."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Annotated

import torch
from pydantic import BeforeValidator, PlainSerializer, computed_field
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from tadaconv.discovery import available, is_path
from tadaconv.errors import unknown
from tadaconv.measure import KINDS, Cost, count
from tadaconv.models import BACKBONES, Host, takes_clips
from tadaconv.preview.rendering import rows_table
from tadaconv.preview.scale import PAPER, Scale, build_host, errors_of_row, in_words, scale_of
from tadaconv.regime import Regime
from tadaconv.spec import Record, Temporal
from tadaconv.table import Row, load_table

Printed = Annotated[
    Decimal,
    BeforeValidator(lambda value: f"{value:g}" if isinstance(value, float) else value),
    PlainSerializer(float, return_type=float, when_used="json"),
]
"""A number with the digits it is printed with."""


class RowCost(Record):
    """What a row costs, next to what the paper prints; multiply-adds per clip."""

    row: str
    scale: Scale | None
    """None for an ensemble; its rows have theirs."""
    cost: Cost
    """Of an ensemble the sums over its rows, but of memory the most that one of them takes: each sees its own frames of
    the clip, one after the other. It has no input_shape."""
    ensemble: tuple[str, ...] = ()
    """Of an ensemble, the names of its rows."""
    paper_gmacs: Printed | None = None
    paper_params_m: Printed | None = None
    paper_source: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def macs_differ(self) -> bool:
        """Whether our multiply-adds, rounded or cut to the paper's digits, are another number than the paper's."""
        return _differ(Decimal(self.cost.macs) / 10**9, self.paper_gmacs)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def params_differ(self) -> bool:
        """Whether our parameters, rounded or cut to the paper's digits, are another number than the paper's."""
        return _differ(Decimal(self.cost.params) / 10**6, self.paper_params_m)


def _differ(ours: Decimal, printed: Decimal | None) -> bool:
    """The paper rounds some figures (34.48 M to 34.5) and cuts others (34.57 M to 34.5, 84.247 G to 84.24).

    Whole numbers it rounds: 43 G for 43.2, 94 G for 93.8.
    """
    if printed is None:
        return False
    rules = (ROUND_HALF_UP, ROUND_DOWN) if printed % 1 or "." in str(printed) else (ROUND_HALF_UP,)
    return printed not in (ours.quantize(printed, rule) for rule in rules)


class Costs(Record):
    """The costs of a table's rows, or of one backbone, at one scale."""

    name: str
    scale: Scale
    unit: str = "multiply-adds"
    rows: list[RowCost]


class NetworkCosts:
    """Counts each network once, however often its cost is asked for."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, int], Host] = {}
        self._costs: dict[tuple[str, Scale], Cost] = {}

    def of(self, scale: Scale, temporal: Temporal) -> Cost:
        """The cost of a scale's network with ``temporal`` plugged into its backbone, on one clip of the scale.

        Raises :class:`UserError` where that cannot be built, or cannot take such clips.
        """
        key = "" if temporal is None else temporal.model_dump_json(), scale
        if key not in self._costs:
            bare = scale.backbone, scale.num_classes
            with torch.device("meta"):
                if bare not in self._hosts:
                    self._hosts[bare] = build_host(scale)
                network = scale.network(self._hosts[bare], temporal)
            with takes_clips(scale.backbone, scale.clip):
                self._costs[key] = count(network, scale.clip)
        return self._costs[key]


def costs(name: str, regime: Regime | None = None, num_frames: int | None = None) -> Costs:
    """The costs of a table or a backbone by name: at the paper's scale, or at a regime's.

    The paper's figures are given next to ours only at the scale it prints them for.

    Args:
        name: of a table or a backbone.
        regime: the scale; None for the paper's.
        num_frames: frames of a clip for the rows that name none; None for the scale's.

    Raises:
        UserError: ``name`` is neither, which lists tables and backbones; or a row cannot be built, or
            take clips, at this scale.
        RunError: the operators of a convolution do not add up to its formula.
    """
    scale = (PAPER if regime is None else scale_of(regime)).with_frames(num_frames)
    network_costs = NetworkCosts()
    rows = _rows(name)
    counted = {row.name: _row_cost(row, scale, network_costs, regime) for row in rows if not row.ensemble}
    return Costs(
        name=name,
        scale=scale,
        rows=[counted.get(row.name) or _ensemble_cost(row, counted, regime) for row in rows],
    )


def _rows(name: str) -> Sequence[Row]:
    """The rows of the table called ``name``, or one row of the backbone called so."""
    tables = available("ablation table")
    if name not in tables and (name in BACKBONES or name.startswith(("timm:", "torchvision:"))):
        return [Row(name, None, backbone=name)]
    if name not in tables and not is_path(name):
        raise unknown("table or backbone", name, [*tables, *BACKBONES])
    return load_table(name).table.all_rows


def _row_cost(row: Row, scale: Scale, network_costs: NetworkCosts, regime: Regime | None) -> RowCost:
    own = scale.of(row, regime)
    with errors_of_row(row):
        cost = network_costs.of(own, row.temporal)
    return _beside_its_paper(row, own, cost, own.clip[1], regime)


def _ensemble_cost(row: Row, counted: Mapping[str, RowCost], regime: Regime | None) -> RowCost:
    parts = [counted[name] for name in row.ensemble]
    costs = [part.cost for part in parts]
    cost = Cost(
        params=sum(cost.params for cost in costs),
        macs=sum(cost.macs for cost in costs),
        macs_by_kind={kind: sum(cost.macs_by_kind[kind] for cost in costs) for kind in KINDS},
        activations=sum(cost.activations for cost in costs),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        input_shape=(),
    )
    num_frames = sum(part.scale.clip[1] for part in parts if part.scale)
    return _beside_its_paper(row, None, cost, num_frames, regime)


def _beside_its_paper(row: Row, own: Scale | None, cost: Cost, num_frames: int, regime: Regime | None) -> RowCost:
    paper = row.paper if regime is None and row.paper and row.paper.num_frames == num_frames else None
    return RowCost(
        row=row.name,
        scale=own,
        cost=cost,
        ensemble=row.ensemble,
        paper_gmacs=paper.gmacs if paper else None,
        paper_params_m=paper.params_m if paper else None,
        paper_source=paper.source if paper else None,
    )


def render_costs(counted: Costs) -> Group:
    """The costs as two tables for a terminal of 80 columns: next to the paper's, and multiply-adds by kind."""
    costs = [row.cost for row in counted.rows]
    unit, divisor = ("G", 1e9) if max(cost.macs for cost in costs) >= 1e8 else ("M", 1e6)
    next_to_the_paper = [
        ("params\n(M)", [f"{cost.params / 1e6:.{2 if cost.params >= 1e6 else 3}f}" for cost in costs]),
        ("paper  ", [_paper(row.paper_params_m, row.params_differ) for row in counted.rows]),
        (f"MACs\n({unit})", [f"{cost.macs / divisor:.2f}" for cost in costs]),
        ("paper  ", [_paper(row.paper_gmacs, row.macs_differ) for row in counted.rows]),
        ("activations\n(M)", [f"{cost.activations / 1e6:.{1 if cost.activations >= 1e6 else 3}f}" for cost in costs]),
        ("memory\n(MiB)", [f"{cost.peak_memory_bytes / 2**20:.1f}" for cost in costs]),
    ]
    by_kind = [
        (heading, [f"{cost.macs_by_kind[kind] / divisor:.3f}" if cost.macs_by_kind[kind] else "" for cost in costs])
        for kind, heading in _HEADINGS.items()
    ]
    return Group(
        f"{escape(counted.name)}: {in_words([row.scale for row in counted.rows if row.scale])}",
        _table(counted, next_to_the_paper),
        _explained(counted),
        "",
        f"Multiply-adds by kind ({unit}): the first two are MACs, the others are counted separately",
        _table(counted, by_kind),
    )


def _paper(printed: Decimal | None, differs: bool) -> str:
    return "" if printed is None else f"{printed}{' *' if differs else '  '}"


def _table(counted: Costs, columns: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """A column of names and ``columns``, each a heading and its texts, without those that are empty."""
    shown = [(heading, texts) for heading, texts in columns if any(texts)]
    table = rows_table([heading for heading, _ in shown])
    for row, *texts in zip(counted.rows, *(texts for _, texts in shown), strict=True):
        table.add_row(escape(row.row), *texts)
    return table


def _explained(counted: Costs) -> str:
    """What the columns are, of one clip."""
    sentences = [
        "MACs: multiply-adds of convolutions and linear layers for one clip, as the paper counts them.",
        "Activations: elements these write. Memory: peak of a forward pass in float32, with the parameters.",
    ]
    if any(row.paper_gmacs is not None for row in counted.rows):
        sentences.append("The paper rounds some figures and truncates others; * marks where ours is neither.")
    if any(row.ensemble for row in counted.rows):
        sentences.append("An ensemble costs the sum of its rows; they run in sequence, so memory is the largest.")
    return " ".join(sentences)


_HEADINGS = {
    "convolution": "convo-\nlution",
    "linear": "linear",
    "norm": "norm",
    "calibration": "cali-\nbration",
    "aggregation": "aggre-\ngation",
    "kernels": "kernels",
    "attention": "atten-\ntion",
    "scale": "scale",
}
"""By kind, in the order of :data:`tadaconv.measure.KINDS`."""
