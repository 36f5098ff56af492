"""What a table is before it is run: what its rows cost, and whether every row can be built. Trains nothing."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table as Rendered

from tadaconv.ablation import LoadedTable, Row, load_table
from tadaconv.discovery import available
from tadaconv.errors import unknown
from tadaconv.measure import Cost, count
from tadaconv.models import BACKBONES, Host, build, plug_in, promised_start
from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Folder

ClipShape = tuple[int, int, int, int]
"""(C, T, H, W)"""


class Scale(BaseModel):
    """What costs are counted on: the network's size and the clip's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    num_classes: int
    clip: ClipShape


PAPER = Scale(backbone="resnet50", num_classes=400, clip=(3, 8, 256, 256))
"""The scale on which the paper prints its costs: 400 classes, 8 frames of 256 pixels."""


def scale_of(regime: Regime) -> Scale:
    """The scale of a regime's own network and clips; a folder not yet scanned counts as 400 classes."""
    if isinstance(regime.data, Folder):
        num_classes = regime.data.num_classes or PAPER.num_classes
    else:
        from tadaconv.data.synthetic import CLASS_NAMES

        num_classes = len(CLASS_NAMES)
    clip = (3, regime.data.num_frames, regime.data.size, regime.data.size)
    return Scale(backbone=regime.backbone.name, num_classes=num_classes, clip=clip)


def _host(scale: Scale) -> Host:
    """The backbone of this scale without any temporal operator, its weights drawn from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(Backbone(name=scale.backbone), None, scale.num_classes)


class RowCost(BaseModel):
    """What a row costs, beside what the paper prints; multiply-adds a clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    cost: Cost
    paper_gmacs: float | None = None
    paper_source: str | None = None

    @property
    def differs(self) -> bool:
        """Whether our count, rounded as the paper's is, is another number than the paper's."""
        if self.paper_gmacs is None:
            return False
        digits = len(f"{self.paper_gmacs:g}".partition(".")[2])
        return round(self.cost.macs / 1e9, digits) != self.paper_gmacs


class Costs(BaseModel):
    """The costs of a table's rows, or of one backbone, at one scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    scale: Scale
    unit: str = "multiply-adds"
    rows: list[RowCost]


def costs(name: str, regime: Regime | None = None) -> Costs:
    """The costs of a table or a backbone by name: at the paper's scale, or at a regime's.

    The paper's figures are given beside ours only at the scale it prints them for. Raises :class:`UserError` that lists
    tables and backbones if ``name`` is neither.
    """
    scale = PAPER if regime is None else scale_of(regime)
    tables = available("ablation table")
    if name in BACKBONES and name not in tables:
        scale = scale.model_copy(update={"backbone": name})
        return Costs(name=name, scale=scale, rows=[RowCost(row=name, cost=count(_host(scale), scale.clip))])
    if name not in tables and not name.endswith(".py") and "/" not in name:
        raise unknown("table or backbone", name, [*tables, *BACKBONES])
    rows, host = [], _host(scale)
    for row in load_table(name).table.all_rows:
        paper = row.paper if scale == PAPER else None
        rows.append(
            RowCost(
                row=row.name,
                cost=count(plug_in(host, row.temporal, scale.clip[1]), scale.clip),
                paper_gmacs=paper.gmacs if paper else None,
                paper_source=paper.source if paper else None,
            )
        )
    return Costs(name=name, scale=scale, rows=rows)


def _scale_words(scale: Scale) -> str:
    frames, height, width = scale.clip[1:]
    return f"{scale.backbone}, {scale.num_classes} classes, {frames} frames of {height} x {width}"


_APART = {"norm": "norm", "calibration": "cali-\nbration", "aggregation": "aggre-\ngation"}
"""What is counted apart from the paper's convention, and the heading it gets."""


def render_costs(found: Costs) -> Rendered:
    """The costs as a table for a terminal of 80 columns, in units that fit the network's size."""
    unit, divisor = ("G", 1e9) if max(row.cost.macs for row in found.rows) >= 1e8 else ("M", 1e6)
    papers = any(row.paper_gmacs is not None for row in found.rows)
    caption = f"Multiply-adds of one clip, in {unit}. MACs: convolutions and linear layers, as the paper counts; the "
    caption += "columns after it are counted apart."
    if any(row.differs for row in found.rows):
        caption += " * differs from the paper."
    table = Rendered(title=f"{escape(found.name)}: {_scale_words(found.scale)}", caption=caption, box=SIMPLE_HEAD)
    table.title_justify = table.caption_justify = "left"
    table.add_column("row", min_width=12)
    for heading in ("params\n(M)", f"MACs\n({unit})", *(["paper"] if papers else []), *_APART.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.rows:
        mark = " *" if row.differs else ""
        paper = ["" if row.paper_gmacs is None else f"{row.paper_gmacs:g}{mark}"] if papers else []
        table.add_row(
            escape(row.row),
            f"{row.cost.params / 1e6:.{2 if row.cost.params >= 1e6 else 3}f}",
            f"{row.cost.macs / divisor:.2f}",
            *paper,
            *(f"{row.cost.macs_by_kind[kind] / divisor:.3f}" for kind in _APART),
        )
    return table


class RowCheck(BaseModel):
    """Whether a row builds, and whether plugging it in leaves the backbone's output as it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    params: int
    start: Literal["exact", "rounding", "differs", "by design"] = Field(
        description="exact: the host's scores bit for bit; rounding: equal to rounding, where taps are calibrated; "
        "differs: neither, though the row should start at identity; by design: the row does not start at identity."
    )
    largest_difference: float = Field(description="Largest difference of a class score from the host's, absolute.")

    @property
    def ok(self) -> bool:
        """Whether the row starts as it should."""
        return self.start != "differs"


class TableCheck(BaseModel):
    """The checks of all rows of a table at one scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    scale: Scale
    rows: list[RowCheck]

    @property
    def ok(self) -> bool:
        """Whether every row starts as it should."""
        return all(row.ok for row in self.rows)


def check(loaded: LoadedTable, regime: Regime) -> TableCheck:
    """Plug every row of a table into a regime's backbone and hold its scores against the host's, before training.

    Raises :class:`UserError` for a row that cannot be built.
    """
    scale = scale_of(regime)
    clip = torch.randn(1, *scale.clip, generator=torch.Generator().manual_seed(0))
    host = _host(scale).eval()
    with torch.no_grad():
        expected = host(clip)
        rows = [_check_row(row, host, clip, expected) for row in loaded.table.all_rows]
    return TableCheck(table=loaded.name, scale=scale, rows=rows)


def _check_row(row: Row, host: Host, clip: torch.Tensor, expected: torch.Tensor) -> RowCheck:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = plug_in(host, row.temporal, clip.shape[2])
    scores = network(clip)
    start: Literal["exact", "rounding", "differs", "by design"]
    promised = promised_start(row.temporal)
    if promised == "no":
        start = "by design"
    elif torch.equal(scores, expected):
        start = "exact"
    else:
        close = promised == "rounding" and torch.allclose(scores, expected, rtol=1e-3, atol=1e-4)
        start = "rounding" if close else "differs"
    return RowCheck(
        row=row.name,
        params=sum(p.numel() for p in network.parameters()),
        start=start,
        largest_difference=float((scores - expected).abs().max()),
    )


_STARTS = {
    "exact": "the host bit for bit",
    "rounding": "the host to rounding",
    "differs": "[red]not the host[/red]",
    "by design": "another, by design",
}


def render_check(found: TableCheck) -> Rendered:
    """The checks as a table for the terminal."""
    table = Rendered(title=f"{escape(found.table)}: {_scale_words(found.scale)}", box=SIMPLE_HEAD, title_justify="left")
    for column, justify in (
        ("row", "left"),
        ("params (M)", "right"),
        ("at the start", "left"),
        ("difference\nof scores", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in found.rows:
        difference = f"{row.largest_difference:.1e}" if row.largest_difference else "0"
        table.add_row(escape(row.row), f"{row.params / 1e6:.3f}", _STARTS[row.start], difference)
    return table
