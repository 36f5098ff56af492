"""What a network costs: parameters, multiply-adds by kind, activations and memory.

The paper counts convolutions and linear layers, one multiply-add each; normalisation, the calibration's own
multiplications, the aggregation and the mixing of kernels are counted separately, so that figures stay comparable and
complete.
"""

from collections import Counter
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from tadaconv.errors import RunError
from tadaconv.measure.forward_pass import ForwardPass, forward_pass, in_evaluation_mode
from tadaconv.measure.live import tensor_bytes
from tadaconv.models.rivals.mixture import KernelMixture
from tadaconv.nn import TAdaConv2d, TAdaConv3d, TemporalPool

KINDS: Final = ("convolution", "linear", "norm", "calibration", "aggregation", "kernels", "attention", "scale")
"""Every kind of multiply-adds; the first two are what the paper counts."""


class Cost(BaseModel):
    """The cost of one forward pass of one clip, without gradients."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: int
    macs: int = Field(description="Convolutions and linear layers: the paper's convention.")
    macs_by_kind: dict[str, int] = Field(
        description="convolution, linear, norm, calibration, aggregation, kernels (mixed for each frame), attention "
        "and scale (all other products by element, such as gates); as executed."
    )
    activations: int = Field(
        description="Elements written by convolutions and linear layers (Dollar et al., arXiv:2103.06877)."
    )
    peak_memory_bytes: int = Field(
        description="In float32: parameters, buffers and the most that all other tensors, the clip among them, hold at "
        "once. Kernels' workspaces and the allocator's cache are not in it."
    )
    input_shape: tuple[int, ...] = Field(description="(1, C, T, H, W)")
    unit: str = "multiply-adds"


def count(model: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """The cost of ``model`` on one clip of shape (C, T, H, W), or on features (C, T).

    Nothing is computed: shapes alone go through the network, on whichever device its parameters are. A convolution
    calibrated by taps is computed as products of another shape; it counts as the convolution it is, O * I / groups *
    prod(kernel) multiply-adds an output position.

    Raises:
        RunError: the operators of a convolution do not add up to its formula; the message names the module and gives
            both counts.
    """
    shape = (1, *input_shape)
    with in_evaluation_mode(model):
        record = forward_pass(model, shape)
    kinds: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    activations = 0
    pooling: tuple[str, ...] = ()
    for name, module in model.named_modules():
        pooling += (name,) if isinstance(module, TemporalPool) else ()
        if name.startswith(pooling):
            kinds["aggregation"] += record.macs[name].total()
        elif isinstance(module, nn.modules.conv._ConvNd | KernelMixture) and not getattr(module, "transposed", False):
            kinds.update(_convolution_macs(name, module, record))
            activations += record.outputs[name]
        else:
            kinds.update(record.macs[name])
            activations += record.activations[name]
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        macs=kinds["convolution"] + kinds["linear"],
        macs_by_kind={kind: int(kinds[kind]) for kind in KINDS},
        activations=activations,
        peak_memory_bytes=tensor_bytes([*model.parameters(), *model.buffers()]) + record.peak_bytes,
        input_shape=shape,
    )


def _convolution_macs(
    name: str, module: nn.modules.conv._ConvNd | KernelMixture, record: ForwardPass
) -> dict[str, int]:
    """Multiply-adds by kind of a convolution, plain, calibrated or of mixed kernels.

    Those of the convolution itself follow from its output. Taps that are calibrated may be summed element by element
    instead of as a product of matrices; what else a mixture multiplies makes its kernels.
    """
    macs = record.macs[name]
    expected = record.outputs[name] * module.weight[0].numel()
    products, by_element = macs["convolution"] + macs["linear"], macs["scale"]
    if isinstance(module, KernelMixture):
        agrees = products >= expected
        rest = {"kernels": products - expected, "scale": by_element, "norm": macs["norm"]}
    else:
        summed = 0 if products else expected
        agrees = products in (0, expected) and by_element >= summed
        rest = {"calibration" if isinstance(module, TAdaConv2d | TAdaConv3d) else "scale": by_element - summed}
    if not agrees:
        raise RunError(
            f"the operators of {name or 'the network'} ({type(module).__name__}) take {products:,} multiply-adds, the "
            f"formula of its layer gives {expected:,}"
        )
    return {"convolution": expected, **rest}
