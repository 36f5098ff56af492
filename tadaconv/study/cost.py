"""The cost of a configuration in a regime, and whether it is within the budget."""

from tadaconv.execution import attrs as attr
from tadaconv.regime import Regime
from tadaconv.spec import Temporal
from tadaconv.study.definition import Study


def budget_macs(study: Study, regime: Regime) -> int | None:
    """The most multiply-adds per clip that a configuration may cost in a regime; None where there is no budget."""
    if study.budget is None:
        return None
    if study.budget.gmacs is not None:
        return int(study.budget.gmacs * 1e9)
    assert study.budget.relative_macs is not None
    return int(MacsCounter(regime).macs(None) * study.budget.relative_macs)


class MacsCounter:
    """Counts multiply-adds in a regime; raises :class:`UserError` if its backbone cannot take its clips."""

    def __init__(self, regime: Regime) -> None:
        from tadaconv.preview import NetworkCosts, scale_of  # imports torch, which reading a study does not need

        self._scale, self._costs = scale_of(regime), NetworkCosts()
        self._scale.require(None)

    def macs(self, temporal: Temporal) -> int:
        """Multiply-adds a clip of the backbone with ``temporal`` plugged in, by the paper's convention."""
        return self._costs.of(self._scale, temporal).macs


def over(macs: int | None, max_macs: int | None) -> str | None:
    """Why a configuration is not run for its cost, one line; None where it is within the budget."""
    if macs is None or max_macs is None or macs <= max_macs:
        return None
    return f"{macs:,} multiply-adds per clip, {(macs / max_macs - 1) * 100:.2g} % over the budget of {max_macs:,}"


def violation(macs: int | None, max_macs: int | None) -> dict[str, float] | None:
    """Optuna's constraint: above 0 by the fraction of the budget that is exceeded; None without a budget."""
    return None if macs is None or max_macs is None else {attr.MACS: macs / max_macs - 1}
