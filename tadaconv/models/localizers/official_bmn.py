"""Checkpoints of BMN as the authors of TAda2D train it (github.com/alibaba-mmai-research/TAdaConv).

All sizes are read from shapes. A checkpoint contains the sampling of boundary matching as a dense tensor, from which it
is checked that the positions are ours. Its optional branches, for offsets, verbs and nouns, are left out: nothing that
is used here follows from them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tadaconv.errors import UserError
from tadaconv.models.localizers.bmn import BMN
from tadaconv.models.state_dicts import State, checked, fit, read_content, refuse_mismatch, some
from tadaconv.nn.boundary_matching import sampling_matrix

SUPPORTED = "supported is BMN: backbone.conv_layer, and x_1d_s, x_1d_e, x_1d_p, x_3d_p, x_2d_p and sample_mask in head"

_OPTIONAL = r"head\.x_2d_(r|verb|noun)\."
_MASK = "head.sample_mask"
_SIZES = {
    "backbone.conv_layer.0.weight": 3,
    "backbone.conv_layer.2.weight": 3,
    "head.x_3d_p.0.weight": 5,
    "head.x_2d_p.0.weight": 4,
    _MASK: 2,
}
"""Tensors from which sizes are read, and how many dimensions they have."""

_PARTS = {
    "base": "backbone.conv_layer",
    "start": "head.x_1d_s",
    "end": "head.x_1d_e",
    "proposal": "head.x_1d_p",
    "matching": "head.x_3d_p.0",
    "evaluation": "head.x_2d_p",
}
"""Our modules, and the authors'."""


def _check_positions(mask: Tensor, sampling: tuple[int, int, int, int, float]) -> None:
    """Raise :class:`UserError` unless the dense mask, (T, S * D * T), has the entries of our sparse matrix."""
    num_steps, max_duration, num_samples, *_ = sampling
    matrix, _ = sampling_matrix(*sampling)
    cells = torch.arange(max_duration * num_steps).repeat_interleave(matrix.offsets.diff())
    frames, samples = matrix.columns.long() // num_samples, matrix.columns.long() % num_samples
    entries = mask[frames, samples * max_duration * num_steps + cells].double()
    close = torch.allclose(entries, matrix.weights, rtol=0, atol=1e-5)
    if not close or mask.count_nonzero() != entries.count_nonzero():
        raise UserError(
            f"{_MASK} in the checkpoint samples other positions than proposals extended by {sampling[4]:g} with "
            f"{sampling[3]} points a sample; {SUPPORTED} with these"
        )


def import_official_bmn(state_dict: Mapping[str, Any], num_classes: Sequence[int]) -> BMN:
    """Our network with the weights of a BMN that the authors' code trained; ``conventions`` are the authors'.

    It is in evaluation mode on the CPU, in float64 if the weights are and else in float32. What classifies, which a
    checkpoint does not have, is at its random start.

    Args:
        state_dict: tensors by the authors' names, with or without the ``module.`` of a parallel wrapper; or a whole
            training checkpoint, of which ``model_state`` is taken.
        num_classes: by label head, as for :class:`~tadaconv.models.localizers.bmn.BMN`.

    Raises:
        UserError: another architecture or sampling, a missing or surplus name, or a wrong shape.
    """
    whole = isinstance(state_dict, Mapping) and isinstance(state_dict.get("model_state"), Mapping)
    state = checked(state_dict["model_state"] if whole else state_dict)
    state = {name: value for name, value in state.items() if not re.match(_OPTIONAL, name)}
    for name, num_dims in _SIZES.items():
        if name not in state or state[name].dim() != num_dims:
            has = f"has {name} of {tuple(state[name].shape)}" if name in state else f"misses {name}"
            raise UserError(f"the checkpoint {has} (its names: {some(state) or 'none'}); {SUPPORTED}")
    first, second, projection, evaluation, mask = (state[name] for name in _SIZES)
    groups, (num_steps, num_columns) = len(second) // second.shape[1], mask.shape
    num_samples, max_duration = projection.shape[2], num_columns // (num_steps * projection.shape[2])
    if num_columns != num_samples * max_duration * num_steps or not 1 <= max_duration <= num_steps:
        raise UserError(f"{_MASK} has shape {tuple(mask.shape)}, which no {num_samples} samples fit; {SUPPORTED}")
    _check_positions(mask, (num_steps, max_duration, num_samples, 3, 0.5))
    network = BMN(
        first.shape[1] * groups,
        num_classes,
        num_steps,
        max_duration,
        num_samples=num_samples,
        widths=(len(first), len(projection), len(evaluation)),
        groups=groups,
        conventions="authors",
    )
    network.to(torch.promote_types(projection.dtype, torch.float32))
    return _filled(network, {name: value for name, value in state.items() if name != _MASK}).eval()


def _filled(network: BMN, state: State) -> BMN:
    """The network with the values of the checkpoint."""
    ours = network.state_dict()
    official = {}
    for name in ours:
        part, _, rest = name.partition(".")
        if part in _PARTS:
            official[name] = f"{_PARTS[part]}.{rest}"
    values = {}
    for name, theirs in official.items():
        if theirs in state and name == "matching.weight":
            values[name] = fit(state[theirs].permute(1, 2, 0, 3, 4), ours[name].shape)
        elif theirs in state:
            values[name] = fit(state[theirs], ours[name].shape)
    refuse_mismatch(
        "the checkpoint is not a whole BMN of the authors' release",
        SUPPORTED,
        missing=[theirs for name, theirs in official.items() if name not in values],
        unexpected=sorted(state.keys() - set(official.values())),
        mismatched=[
            f"{official[name]} {tuple(state[official[name]].shape)} for {tuple(ours[name].shape)}"
            for name, value in values.items()
            if value is None
        ],
    )
    network.load_state_dict({**ours, **values})
    return network


def load_official_bmn(path: str | Path, num_classes: Sequence[int]) -> BMN:
    """:func:`import_official_bmn` of a file that the authors' code wrote; no code in a pickle is run.

    Raises:
        UserError: the file is missing or broken, holds more than tensors and plain values, or is not a BMN.
    """
    checkpoint = read_content(Path(path))
    try:
        return import_official_bmn(checkpoint, num_classes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
