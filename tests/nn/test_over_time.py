"""Operators over time: the functional against its definition, and the modules against the functional."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tadaconv.nn import TAdaConv1d, TAdaConv2d, TAdaConv3d, TemporalConv
from tadaconv.nn.functional import alpha_sizes, tada_conv2d, tada_conv3d
from tadaconv.spec import CALIBRATIONS, Context

WIDE = Context(reduction=1)


@st.composite
def calls(draw, calibration: str):
    """Random arguments of a call, in float64."""
    kind = draw(st.sampled_from(["dense", "two groups", "depthwise"]))
    groups = {"dense": 1, "two groups": 2, "depthwise": draw(st.integers(2, 3))}[kind]
    in_channels = groups * (1 if kind == "depthwise" else draw(st.integers(1, 3)))
    out_channels = groups * draw(st.integers(1, 2))
    over_space = draw(st.booleans())
    kernel = (draw(st.integers(1, 3)), *((draw(st.integers(1, 3)), draw(st.integers(1, 3))) if over_space else (1, 1)))
    dilation, stride, padding = (
        tuple(draw(st.integers(low, high)) for _ in range(3)) for low, high in ((1, 2), (1, 3), (0, 2))
    )
    size = [d * (k - 1) + 1 + draw(st.integers(0, 3)) for d, k in zip(dilation, kernel, strict=True)]
    n = draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x = randn(n, in_channels, *size)
    if draw(st.booleans()):
        x = x.detach().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    weight = randn(out_channels, in_channels // groups, *kernel)
    frames = (size[0] + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    alpha = randn(n, sum(alpha_sizes(weight, groups, calibration).values()), frames)
    bias = randn(out_channels) if draw(st.booleans()) else None
    return x, weight, alpha, bias, stride, padding, dilation, groups, calibration


def by_definition(x, weight, alpha, bias, stride, padding, dilation, groups, calibration):
    """A loop over clips and output frames, the kernel of each scaled one output channel after the other."""
    o, ci, *taps = weight.shape
    padded = F.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
    reach = dilation[0] * (taps[0] - 1) + 1
    clips = []
    for n in range(x.shape[0]):
        frames = []
        for t in range(alpha.shape[2]):
            kernels = list(weight)
            parts = alpha[n, :, t].split(list(alpha_sizes(weight, groups, calibration).values()))
            for factor, part in zip(calibration.split("+"), parts, strict=True):
                for out in range(o):
                    first = (out // (o // groups)) * ci  # the first input channel this output's group sees
                    if factor == "cin":
                        kernels[out] = kernels[out] * part[first : first + ci, None, None, None]
                    elif factor == "cout":
                        kernels[out] = kernels[out] * part[out]
                    elif factor == "k2":
                        kernels[out] = kernels[out] * part.view(*taps)
                    else:
                        kernels[out] = kernels[out] * part.view(-1, *taps)[first : first + ci]
            seen, kernel = padded[n, :, t * stride[0] : t * stride[0] + reach], torch.stack(kernels)
            frames.append(F.conv3d(seen, kernel, bias, (1, *stride[1:]), (0, *padding[1:]), dilation, groups))
        clips.append(torch.cat(frames, 1))
    return torch.stack(clips)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@settings(max_examples=20)
@given(data=st.data())
def test_outputs_and_gradients_equal_a_loop_over_output_frames_of_the_definition(calibration, data):
    arguments = data.draw(calls(calibration))
    ours, definition = tada_conv3d(*arguments), by_definition(*arguments)
    torch.testing.assert_close(ours, definition, rtol=0, atol=1e-10)

    leaves = [a for a in arguments[:4] if a is not None]
    upstream = torch.randn_like(definition)
    for mine, theirs in zip(
        torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(definition, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_a_kernel_of_one_frame_is_the_operator_over_frames(calibration):
    x, weight = torch.randn(2, 4, 3, 6, 6, dtype=torch.float64), torch.randn(6, 4, 3, 3, dtype=torch.float64)
    alpha = torch.randn(2, sum(alpha_sizes(weight, 1, calibration).values()), 3, dtype=torch.float64)
    over_time = tada_conv3d(x, weight[:, :, None], alpha, None, 1, (0, 1, 1), 1, 1, calibration)
    torch.testing.assert_close(over_time, tada_conv2d(x, weight, alpha, None, 1, 1, 1, 1, calibration))


SHAPES = [
    (TAdaConv1d, {"kernel_size": 3, "padding": 1}),
    (TAdaConv1d, {"kernel_size": 3, "stride": 2, "bias": False}),
    (TAdaConv1d, {"kernel_size": 3, "padding": "same", "dilation": 2, "padding_mode": "replicate"}),
    (TAdaConv1d, {"kernel_size": 5, "padding": 1, "groups": 4}),
    (TAdaConv3d, {"kernel_size": 3, "padding": 1}),
    (TAdaConv3d, {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "stride": (2, 2, 2)}),
    (TAdaConv3d, {"kernel_size": (3, 1, 5), "padding": "same", "groups": 2}),
    (TAdaConv3d, {"kernel_size": (3, 2, 3), "padding": "valid", "stride": (1, 2, 1)}),
    (TAdaConv3d, {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "bias": False}),
]


def plain_of(conv: TAdaConv3d) -> nn.Conv3d:
    plain = nn.Conv3d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups,
        conv.bias is not None, conv.padding_mode, dtype=conv.weight.dtype,
    )  # fmt: skip
    plain.load_state_dict({name: value for name, value in conv.state_dict().items() if not name.startswith("context.")})
    return plain


@pytest.mark.parametrize(("kind", "arguments"), SHAPES, ids=str)
@pytest.mark.parametrize("calibration", ["cin", "cout", "cin+cout", "k2", "cin_k2", "cin+cout+k2"])
def test_starts_as_the_plain_convolution(kind, arguments, calibration):
    adaptive = kind(4, 8, **arguments, calibration=calibration, dtype=torch.float64)
    x = torch.randn(2, 4, 7, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(adaptive(x), plain_of(adaptive)(x))


@pytest.mark.parametrize(("kind", "arguments"), SHAPES, ids=str)
def test_each_output_frame_is_calibrated_by_the_frame_at_its_centre(kind, arguments):
    """Only the output frame whose kernel is centred on a frame feels that frame's calibration."""
    conv = kind(4, 8, **arguments, init="random", context=WIDE, dtype=torch.float64).eval()
    x = torch.randn(1, 4, 7, 6, 5, dtype=torch.float64)
    made = conv.context(x)
    half = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
    padding = {"same": half, "valid": 0}.get(conv.padding, conv.padding[0])
    reached = set()
    for frame in range(7):
        moved = made.clone()
        moved[:, :, frame] += 1
        conv.context.forward = lambda *_, alpha=made: alpha
        before = conv(x)
        conv.context.forward = lambda *_, alpha=moved: alpha
        changed = ((conv(x) - before).abs().amax((0, 1, 3, 4)) > 0).nonzero().flatten().tolist()
        expected = [t for t in range(before.shape[2]) if t * conv.stride[0] - padding + half == frame]
        assert changed == expected
        reached.update(changed)
    assert reached == set(range(before.shape[2]))


def test_a_share_leaves_the_other_channels_uncalibrated():
    conv = TAdaConv3d(8, 12, 3, calibration="cin_k2", init="random", share=0.5).eval()
    by_channel = conv._calibration(torch.randn(2, 8, 4, 5, 5)).unflatten(1, (8, 27))
    assert ((by_channel != 1).flatten(2).any(2).any(0)).tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("kind", [TAdaConv1d, TAdaConv3d])
def test_gradients_reach_every_parameter(kind):
    conv = kind(4, 4, 3, padding=1, calibration="cin+cout+k2", init="random")
    conv(torch.randn(2, 4, 4, 6, 6)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TAdaConv1d(4, 4, 4), "a kernel of 4 frames has no frame at its centre; use an odd number"),
        (lambda: TAdaConv3d(4, 4, (2, 3, 3)), "a kernel of 2 frames"),
        (lambda: TAdaConv1d(4, 4, 3, padding=2), "padding of 2 frames .* use at most 1"),
        (lambda: TAdaConv3d(4, 4, 3, share=0), "above 0 and at most 1"),
        (lambda: TAdaConv3d(4, 4, 3)(torch.randn(4, 4, 5, 5)), "clips must be"),
        (lambda: TAdaConv2d(4, 4, 3)(torch.randn(0, 4, 3, 5, 5)), "at least one clip of one frame"),
        (lambda: TAdaConv1d(4, 4, 3)(torch.randn(1, 4, 2, 5, 5)), "a kernel over 3 frames does not fit clips of 2"),
        (lambda: TAdaConv1d(4, 4, 5)(torch.randn(2, 4, 1, 5, 5)), "a kernel over 5 frames does not fit clips of 1"),
        (
            lambda: tada_conv3d(torch.randn(1, 4, 5, 6, 6), torch.randn(4, 4, 3, 3, 3), torch.randn(1, 4, 5)),
            r"takes alpha of shape \(1, 4, 3\), got \(1, 4, 5\)",
        ),
        (
            lambda: tada_conv3d(torch.randn(4, 5, 6, 6), torch.randn(4, 4, 3, 3, 3), torch.randn(1, 4, 5)),
            "clips must be",
        ),
    ],
)
def test_calls_that_cannot_be_calibrated_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_plain_temporal_convolution_is_conv3d(channels_last, groups):
    conv = TemporalConv(4, 6, 3, groups).double()
    x = torch.randn(2, 4, 5, 3, 4, dtype=torch.float64)
    expected = F.conv3d(x, conv.weight, conv.bias, padding=(1, 0, 0), groups=groups)
    x = x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x
    y = conv(x)
    torch.testing.assert_close(y, expected)
    if channels_last:
        assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("kind", [TAdaConv1d, TAdaConv2d, TAdaConv3d])
def test_compiles_without_graph_breaks(kind, calibration):
    conv = kind(4, 4, 3, padding=1, calibration=calibration, init="random").double()
    x = torch.randn(1, 4, 4, 5, 5, dtype=torch.float64)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(conv, backend="eager", fullgraph=True)(x), conv(x))


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("kind", [TAdaConv1d, TAdaConv2d, TAdaConv3d])
def test_can_be_traced_with_gradients(kind, calibration):
    conv = kind(4, 4, 3, padding=1, calibration=calibration, init="random").double()
    x = torch.randn(1, 4, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, on sizes it takes as fixed; and of its deprecation
        traced = torch.jit.trace(conv.eval(), x)
    for mine, theirs in zip(*(torch.autograd.grad(f(x).square().sum(), x) for f in (traced, conv)), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("kind", [TAdaConv1d, TAdaConv2d, TAdaConv3d])
def test_autocast_gives_the_type_of_the_plain_convolution(kind, calibration, bias):
    conv = kind(4, 4, 3, padding=1, bias=bias, calibration=calibration)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(torch.randn(1, 4, 4, 5, 5)).dtype == torch.bfloat16
