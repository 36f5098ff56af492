"""Whether every row of a table can be built, and starts as its host where it should."""

from typing import Literal

import torch
from pydantic import Field
from rich.console import Group
from rich.markup import escape

from tadaconv.models import Host, plug_in, promised_start
from tadaconv.nn import TAdaConv3d
from tadaconv.preview.rendering import rows_table
from tadaconv.preview.scale import Scale, build_host, errors_of_row, in_words, scale_of
from tadaconv.regime import Regime
from tadaconv.spec import Record
from tadaconv.table import LoadedTable, Row


class RowCheck(Record):
    """The start of a row: whether plugging it in leaves the backbone's output unchanged."""

    row: str
    scale: Scale
    params: int
    start: Literal["exact", "rounding", "differs", "by design"]
    """exact: the host's scores bit for bit; rounding: equal to rounding, where taps or convolutions over frames are
    calibrated; differs: neither, though the row should start at identity; by design: the row does not start at
    identity."""
    largest_difference: float
    """Largest difference of a class score from the host's, absolute."""

    @property
    def ok(self) -> bool:
        """Whether the row starts as it should."""
        return self.start != "differs"


class TableCheck(Record):
    """The checks of all rows of a table at one scale."""

    table: str
    scale: Scale
    rows: list[RowCheck]
    ensembles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Rows that average others and have no network, with the names of those."""

    @property
    def ok(self) -> bool:
        """Whether every row starts as it should."""
        return all(row.ok for row in self.rows)


def check(loaded: LoadedTable, regime: Regime) -> TableCheck:
    """Plug every row of a table into a regime's backbone and compare its scores with the host's, before training.

    Weights are random; those of a package or a file are not needed.

    Raises :class:`UserError` for a row that cannot be built, or cannot take the regime's clips.
    """
    from tadaconv.dry_run import require_batches  # what reads a table need not load what trains

    scale = scale_of(regime)
    hosts: dict[Scale, tuple[Host, torch.Tensor, torch.Tensor]] = {}
    rows = []
    with torch.no_grad():
        for row in loaded.table.trained():
            own = scale.of(row, regime)
            with errors_of_row(row):
                require_batches(row.cell(regime, 0).experiment)
                own.require(row.temporal)
                if own not in hosts:
                    hosts[own] = _scored(own)
                rows.append(_check_row(row, own, *hosts[own]))
    ensembles = {row.name: row.ensemble for row in loaded.table.ensembles}
    return TableCheck(table=loaded.name, scale=scale, rows=rows, ensembles=ensembles)


def _scored(scale: Scale) -> tuple[Host, torch.Tensor, torch.Tensor]:
    """The bare backbone, a clip of noise and the clip's scores."""
    clip = torch.randn(1, *scale.clip, generator=torch.Generator().manual_seed(0))
    host = build_host(scale).eval()
    return host, clip, host(clip)


def _check_row(row: Row, scale: Scale, host: Host, clip: torch.Tensor, expected: torch.Tensor) -> RowCheck:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = plug_in(host, row.temporal, clip.shape[2])
    scores = network(clip)
    start: Literal["exact", "rounding", "differs", "by design"]
    promised = promised_start(row.temporal)
    if promised == "exact" and any(isinstance(module, TAdaConv3d) for module in network.modules()):
        promised = "rounding"  # convolutions over frames are computed as convolutions of another shape
    if promised == "no":
        start = "by design"
    elif torch.equal(scores, expected):
        start = "exact"
    else:
        close = promised == "rounding" and torch.allclose(scores, expected, rtol=1e-3, atol=1e-4)
        start = "rounding" if close else "differs"
    return RowCheck(
        row=row.name,
        scale=scale,
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


def render_check(checked: TableCheck) -> Group:
    """The checks as a table for the terminal."""
    table = rows_table(["params\n(M)", "at the start", "difference\nof scores"])
    for row in checked.rows:
        difference = f"{row.largest_difference:.1e}" if row.largest_difference else "0"
        table.add_row(escape(row.row), f"{row.params / 1e6:.3f}", _STARTS[row.start], difference)
    after = [escape(f"{name} averages {' and '.join(parts)}") for name, parts in checked.ensembles.items()]
    return Group(f"{escape(checked.table)}: {in_words([row.scale for row in checked.rows])}", table, *after)
