"""Kernels mixed for each frame: conditional and dynamic convolution against loops, on every kind of host."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import assert_same, average, by_frame, clips, conv_of_frame, frame_conv, make, scatter
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.rivals.mixture import KernelMixture
from tadaconv.nn import FrameConv2d, TAdaConv2d
from tadaconv.nn.frames import TemporalConv

HOSTS = [
    ((4, 6, 3), {"padding": 1, "bias": False}),
    ((4, 6, 3), {"padding": 1, "stride": 2}),
    ((4, 6, (3, 1)), {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)}),
    ((3, 5, 1), {"bias": False}),
    ((4, 6, 3), {"groups": 2, "padding": 1}),
    ((4, 8, 3), {"groups": 4, "stride": 2, "dilation": 2, "padding": (2, 3)}),
    ((5, 5, 7), {"groups": 5, "padding": 3}),
]


def kernel(mixture: KernelMixture, k: int) -> tuple[Tensor, Tensor | None]:
    """The k-th kernel and bias: the host's own, then the others, whose columns run over taps and then channels."""
    if k == 0:
        return mixture.weight, mixture.bias
    weight = torch.empty_like(mixture.weight)
    outputs, inputs, kh, kw = weight.shape
    flat = mixture.kernels[k - 1]
    rows = [
        torch.stack([torch.stack([flat[(a * kw + b) * inputs + i, o] for b in range(kw)]) for a in range(kh)])
        for o in range(outputs)
        for i in range(inputs)
    ]
    return torch.stack(rows).view(weight.shape), None if mixture.biases is None else mixture.biases[k - 1]


def routing(name: str, mixture: KernelMixture, v: list[Tensor]) -> list[Tensor]:
    """The mixing weights of a frame by its paper's formula, number by number."""

    def linear(layer: nn.Linear, v: list[Tensor]) -> list[Tensor]:
        sums = [sum(layer.weight[o, i] * v[i] for i in range(len(v))) for o in range(layer.out_features)]
        return sums if layer.bias is None else [total + layer.bias[o] for o, total in enumerate(sums)]

    if name == "condconv":
        return [1 / (1 + torch.exp(-score)) for score in linear(mixture.router, v)]
    hidden = [score.clamp(min=0) for score in linear(mixture.squeeze, v)]
    powers = [torch.exp(score / mixture.temperature) for score in linear(mixture.attend, hidden)]
    return [power / sum(powers) for power in powers]


def by_loops(name: str, mixture: KernelMixture, x: Tensor, host: nn.Conv2d) -> Tensor:
    kernels = [kernel(mixture, k) for k in range(mixture.num_kernels)]

    def frame(n: int, t: int) -> Tensor:
        shares = routing(name, mixture, list(average(x[n, :, t])))
        weight = sum(share * weight for share, (weight, _) in zip(shares, kernels, strict=True))
        bias = None
        if host.bias is not None:
            bias = sum(share * bias for share, (_, bias) in zip(shares, kernels, strict=True))
        return conv_of_frame(x[n, :, t], weight, bias, host)

    return by_frame(x, frame)


@pytest.mark.parametrize(("arguments", "options"), HOSTS, ids=str)
@pytest.mark.parametrize("name", ["condconv", "dynamic_conv"])
def test_loops_over_frames_kernels_channels_and_taps(name: str, arguments: tuple, options: dict) -> None:
    torch.manual_seed(1)
    host = frame_conv(*arguments, **options)
    own = {"num_experts": 3} if name == "condconv" else {"num_kernels": 3, "reduction": 1, "temperature": 0.7}
    mixture = make(name, host, **own)
    scatter(mixture.parameters())
    if name == "dynamic_conv":
        nn.init.uniform_(mixture.squeeze.bias, 2, 3)  # no hidden unit is dead
    x = clips(2, arguments[0], 2, 7, 8)
    expected = by_loops(name, mixture, x, host)
    assert_same(mixture(x), expected, [x, *mixture.parameters()])


@given(
    sizes=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(1, 2),
    bias=st.booleans(),
    name=st.sampled_from(["condconv", "dynamic_conv"]),
)
@settings(max_examples=25)
def test_loops_over_random_shapes(sizes, channels, kernel, stride, padding, bias, name) -> None:
    torch.manual_seed(2)
    groups, inputs, outputs = channels
    host = frame_conv(
        groups * inputs, groups * outputs, kernel, stride=stride, padding=padding, groups=groups, bias=bias
    )
    own = {"reduction": min(4, groups * inputs)} if name == "dynamic_conv" else {}
    mixture = make(name, host, **own)
    scatter(mixture.parameters())
    num_clips, num_frames, height, width = sizes
    x = clips(num_clips, groups * inputs, num_frames, height, width)
    torch.testing.assert_close(mixture(x), by_loops(name, mixture, x, host))


@pytest.mark.parametrize(("arguments", "options"), HOSTS, ids=str)
def test_at_the_start_every_kernel_is_the_hosts(arguments: tuple, options: dict) -> None:
    host = frame_conv(*arguments, **options)
    x = clips(2, arguments[0], 3, 9, 8).detach()
    expected, weight = host(x), host.weight.clone()
    for name, kernels in (("condconv", 8), ("dynamic_conv", 4)):
        own = {"reduction": min(4, host.in_channels)} if name == "dynamic_conv" else {}
        mixture = make(name, host, **own)
        assert mixture.num_kernels == kernels
        assert torch.equal(mixture.weight, weight)
        for k in range(kernels):
            assert torch.equal(kernel(mixture, k)[0], weight)
    torch.testing.assert_close(mixture(x), expected)  # dynamic convolution: weights that sum to one
    router = make("condconv", host)
    shares = torch.sigmoid(router.router(x.mean((3, 4)).transpose(1, 2))).sum(2)  # of one kernel
    torch.testing.assert_close(router(x), expected * shares[:, None, :, None, None])


@pytest.mark.parametrize("name", ["condconv", "dynamic_conv"])
def test_the_first_gradient_lets_the_kernels_part(name: str) -> None:
    torch.manual_seed(0)
    mixture = make(name, frame_conv(4, 4, 3, padding=1, bias=False))
    mixture(clips(4, 4, 3, 5, 5)).square().sum().backward()
    gradients = mixture.kernels.grad
    assert gradients is not None
    for k in range(1, len(gradients)):
        assert not torch.allclose(gradients[0], gradients[k], rtol=1e-2)


def test_a_high_temperature_levels_the_attention() -> None:
    torch.manual_seed(0)
    v = torch.randn(50, 16)
    spreads = []
    for temperature in (0.1, 1.0, 30.0):
        torch.manual_seed(1)
        shares = make("dynamic_conv", FrameConv2d(16, 4, 1), temperature=temperature).route(v)
        torch.testing.assert_close(shares.sum(1), torch.ones(50))
        spreads.append((shares - 1 / 4).abs().mean().item())
    assert spreads[0] > spreads[1] > 10 * spreads[2]


@pytest.mark.parametrize(
    ("conv", "says"),
    [
        (nn.Conv3d(4, 4, 3, padding=1), "Conv3d(4, 4, kernel_size=(3, 3, 3)"),
        (TemporalConv(4, 4, 3), "TemporalConv(4, 4, kernel_size=(3, 1, 1)"),
        (FrameConv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding_mode=reflect"),
        (FrameConv2d(4, 4, 3, padding="same"), "padding=same"),
        (TAdaConv2d(4, 4, 3), "TAdaConv2d(4, 4, kernel_size=(3, 3)"),
        (nn.Linear(4, 4), "Linear(in_features=4"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["condconv", "dynamic_conv"])
def test_other_layers_than_plain_convolutions_are_refused(name: str, conv: nn.Module, says: str) -> None:
    with pytest.raises(UserError, match=r"^a kernel for each frame replaces a zero-padded Conv2d, not") as error:
        make(name, conv)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_convolution_with_a_rival_is_refused() -> None:
    with pytest.raises(UserError, match="replaces a zero-padded Conv2d"):
        make("condconv", make("squeeze_excitation", FrameConv2d(16, 16, 3)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("condconv", {"num_experts": 0}, "at least 1 kernel, not 0"),
        ("dynamic_conv", {"num_kernels": -1}, "at least 1 kernel, not -1"),
        ("dynamic_conv", {"reduction": 0}, "reduction must be at least 1, not 0"),
        ("dynamic_conv", {"temperature": 0.0}, "temperature must be finite and above 0, not 0.0"),
        ("dynamic_conv", {"temperature": -1.0}, "temperature must be finite and above 0, not -1.0"),
        ("dynamic_conv", {"temperature": math.nan}, "temperature must be finite and above 0, not nan"),
        ("dynamic_conv", {"temperature": math.inf}, "temperature must be finite and above 0, not inf"),
        ("dynamic_conv", {"reduction": 5}, "reduction=5 leaves none of 4 channels; lower it"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(name, FrameConv2d(4, 4, 3), **options)


def test_one_kernel_is_the_convolution_itself() -> None:
    host = frame_conv(4, 6, 3, padding=1)
    x = clips(2, 4, 2, 5, 5)
    expected = host(x)
    torch.testing.assert_close(make("dynamic_conv", host, num_kernels=1)(x), expected)
