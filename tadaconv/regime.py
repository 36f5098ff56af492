"""A regime: the backbone scale, the clips and the recipe a table is run on. Rows vary only what they ablate."""

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.spec import Backbone, Data, Experiment, Schedule, Spec, Temporal


class Regime(Spec):
    """One file in ``regimes/`` holds one regime under the name ``REGIME``."""

    summary: str
    backbone: Backbone
    data: Data
    schedule: Schedule

    def experiment(self, temporal: Temporal, seed: int) -> Experiment:
        """The experiment of one cell: this regime with ``temporal`` plugged in, from ``seed``."""
        return Experiment(backbone=self.backbone, temporal=temporal, data=self.data, schedule=self.schedule, seed=seed)


def load_regime(name: str) -> Regime:
    """The regime behind a name or a path; raises :class:`UserError`, listing the right names, nearest first."""
    regime = getattr(discovery.load("regime", name), "REGIME", None)
    if not isinstance(regime, Regime):
        raise UserError(f"regime {name!r} defines no REGIME = Regime(...)")
    return regime
