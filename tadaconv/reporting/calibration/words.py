"""Names and numbers of calibrations as readers see them."""

import pandas as pd

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
