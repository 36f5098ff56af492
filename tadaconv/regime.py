"""A regime: the backbone scale, the clips and the recipe a table is run on. Rows vary only what they ablate."""

from collections.abc import Iterable
from contextlib import suppress

from pydantic import Field

from tadaconv import discovery
from tadaconv.command import command, given
from tadaconv.errors import UserError
from tadaconv.spec import Backbone, Data, Experiment, Folder, Schedule, Spec, Temporal


class Regime(Spec):
    """One file in ``regimes/`` holds one regime under the name ``REGIME``."""

    summary: str
    backbone: Backbone
    data: Data
    schedule: Schedule
    stand_ins: dict[str, str] = Field(
        {}, description="By the name of a backbone a row asks for, the one that stands in for it at this scale."
    )

    def experiment(
        self, temporal: Temporal, seed: int, backbone: str | None = None, num_frames: int | None = None
    ) -> Experiment:
        """The experiment of one cell: this regime with ``temporal`` plugged in, from ``seed``.

        Args:
            temporal: what the row plugs in.
            seed: of the weights, the data order and the augmentation.
            backbone: the backbone the row asks for, or what stands in for it here; None for the regime's own.
            num_frames: frames of a clip that the row asks for; None for the regime's own.
        """
        host, data = self.backbone, self.data
        if backbone is not None:
            host = host.but(name=self.stand_ins.get(backbone, backbone))
        if num_frames is not None:
            data = data.but(num_frames=num_frames)
        return Experiment(backbone=host, temporal=temporal, data=data, schedule=self.schedule, seed=seed)


def load_regime(name: str) -> Regime:
    """The regime behind a name or a path; raises :class:`UserError`, listing the right names, nearest first."""
    regime = getattr(discovery.load("regime", name), "REGIME", None)
    if not isinstance(regime, Regime):
        raise UserError(f"regime {name!r} defines no REGIME = Regime(...)")
    return regime


def run_command(name: str, what: str, regime_name: str, ran: Iterable[Experiment] = (), **options: object) -> str:
    """The command that runs a table or a study in a regime, with the clips it needs.

    Args:
        name: ``ablate`` or ``study``.
        what: what finds the table or study, a name or a path.
        regime_name: what finds the regime.
        ran: experiments whose clips are taken, where the present call names none.
        options: as :func:`tadaconv.command.command` takes them.
    """
    roots = [experiment.data.root for experiment in ran if isinstance(experiment.data, Folder)]
    with suppress(UserError):  # a regime whose file is not found, as one of another name once was
        if roots or isinstance(load_regime(regime_name).data, Folder):
            options = {"data": given("data") or (roots[-1] if roots and roots[-1] else "DIR"), **options}
    return command(name, what, **{"regime": regime_name, **options})
