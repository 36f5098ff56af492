"""Names and numbers of calibrations as readers see them."""

import pandas as pd

from tadaconv.reporting.core.format import MINUS

FACTORS = {
    "cin": "input channels",
    "cout": "output channels",
    "k2": "taps",
    "cin_k2": "pairs of input channel and tap",
}
"""What the factors of a calibration scale."""


def layer_names(layers: pd.DataFrame) -> list[str]:
    """A name for each line of ``layers.csv``, unique: stage and block, and what else tells two apart."""
    lines = layers.to_dict("records")
    kinds, factors = len(set(layers["kind"])) > 1, len(set(layers["factor"])) > 1
    names = [
        f"res{line['stage']}, block {line['block'] + 1}"
        + (f", {line['kind']}" if kinds else "")
        + (f", {line['factor']}" if factors else "")
        for line in lines
    ]
    if len(set(names)) < len(names):  # of two pathways, say
        names = [f"{name}, {line['layer'].partition('.')[0]}" for name, line in zip(names, lines, strict=True)]
    return names if len(set(names)) == len(names) else [f"{line['layer']}, {line['factor']}" for line in lines]


def number(value: float, scale: float | None = None) -> str:
    """An alpha, or a distance from one, with so many decimals that ``scale``, or itself, has two digits.

    A dash where it is not known.
    """
    if value != value:
        return "\u2013"
    size = abs(value if scale is None else scale)
    decimals = 2
    while decimals < 6 and 0 < size < 10.0 ** (1 - decimals):
        decimals += 1
    return f"{value:.{decimals}f}".replace("-", MINUS)
