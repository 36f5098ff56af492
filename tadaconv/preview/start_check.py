"""Whether every row of a table can be built, and starts as its host where it should."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from rich.console import Group
from rich.markup import escape

from tadaconv.measure.detection import Instances, Predictions, in_columns
from tadaconv.metrics import ROUNDING_ERROR
from tadaconv.models import Host, promised_start
from tadaconv.models.localizing import LocalizingNetwork
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
    """Largest difference of a class score from the host's, absolute; of localization, of a feature of a frame."""

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
    truth_score: float | None = None
    """Of localization, the score of the true segments of the validation clips as predictions, in percent."""

    @property
    def truth_scores_100(self) -> bool:
        """Whether the true segments score what they should, to rounding; so it is without any."""
        return self.truth_score is None or abs(self.truth_score - 100) < ROUNDING_ERROR

    @property
    def ok(self) -> bool:
        """Whether every row starts as it should, and the true segments score 100."""
        return all(row.ok for row in self.rows) and self.truth_scores_100


def check(loaded: LoadedTable, regime: Regime) -> TableCheck:
    """Plug every row of a table into a regime's backbone and compare its scores with the host's, before training.

    Weights are random; those of a package or a file are not needed. Of localization, features of frames are compared,
    and the evaluation is checked as well: on the true segments as predictions.

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
    truth_score = _truth_score(regime) if scale.localization is not None else None
    return TableCheck(table=loaded.name, scale=scale, rows=rows, ensembles=ensembles, truth_score=truth_score)


def _truth_score(regime: Regime) -> float:
    """The score of the true segments of a regime's validation clips, each predicted once with certainty."""
    from tadaconv.data import open_source
    from tadaconv.data.source import SegmentSource
    from tadaconv.training.localization import summarise

    source = open_source(regime.data, torch.device("cpu"))
    assert isinstance(source, SegmentSource)
    assert regime.localization is not None
    truth = source.val_truth()
    columns = in_columns([each.spans for each in truth], [each.labels for each in truth], len(source.heads))
    predictions = Predictions(*columns, np.ones(len(columns[0])))
    return summarise(Instances(*columns), predictions, source, regime.localization, loss=0.0).score


def _scored(scale: Scale) -> tuple[Host, torch.Tensor, torch.Tensor]:
    """The bare backbone, a clip of noise, and its scores or features."""
    clip = torch.randn(1, *scale.clip, generator=torch.Generator().manual_seed(0))
    host = build_host(scale).eval()
    return host, clip, host(clip) if scale.localization is None else host.features(clip)


def _check_row(row: Row, scale: Scale, host: Host, clip: torch.Tensor, expected: torch.Tensor) -> RowCheck:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = scale.network(host, row.temporal)
    if isinstance(network, LocalizingNetwork):
        assert network.backbone is not None
        scores = network.backbone.host.features(clip)
    else:
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
    compared = "scores" if checked.truth_score is None else "features"
    table = rows_table(["params\n(M)", "at the start", f"difference\nof {compared}"])
    for row in checked.rows:
        difference = f"{row.largest_difference:.1e}" if row.largest_difference else "0"
        table.add_row(escape(row.row), f"{row.params / 1e6:.3f}", _STARTS[row.start], difference)
    after = [escape(f"{name} averages {' and '.join(parts)}") for name, parts in checked.ensembles.items()]
    if checked.truth_score is not None:
        wrong = "" if checked.truth_scores_100 else f" [red]{checked.truth_score:.2f}, and has to score[/red]"
        after.append(f"the truth as prediction scores{wrong} 100")
    return Group(f"{escape(checked.table)}: {in_words([row.scale for row in checked.rows])}", table, *after)
