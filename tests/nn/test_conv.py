"""The module: a drop-in for ``nn.Conv2d`` on clips that calibrates itself."""

import pytest
import torch
from torch import nn

from tadaconv.nn import TAdaConv2d
from tadaconv.nn.naive import naive_tada_conv2d
from tadaconv.spec import CALIBRATIONS, Context

SHAPES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 1), "stride": (2, 1), "bias": False},
    {"kernel_size": 3, "padding": "same", "dilation": 2},
    {"kernel_size": 3, "padding": "valid", "groups": 2},
    {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "groups": 4},
    {"kernel_size": 2, "padding": "same", "padding_mode": "replicate"},
]


WIDE = Context(reduction=1)
"""A hidden layer wide enough not to be dead at random."""


def per_frame(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([conv(x[:, :, t]) for t in range(x.shape[2])], 2)


@pytest.mark.parametrize("arguments", SHAPES, ids=str)
@pytest.mark.parametrize("calibration", ["cin", "cout", "cin+cout", "k2", "cin_k2"])
def test_starts_as_the_plain_convolution_of_every_frame(arguments, calibration):
    plain = nn.Conv2d(4, 8, **arguments)
    adaptive = TAdaConv2d(4, 8, **arguments, calibration=calibration)
    missing = adaptive.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith("context.") for key in missing.missing_keys)
    x = torch.randn(2, 4, 3, 9, 8)
    torch.testing.assert_close(adaptive(x), per_frame(plain, x))


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("init", ["random", "without_one"])
def test_convolves_with_the_kernels_its_own_context_makes(calibration, init):
    conv = TAdaConv2d(6, 4, 3, 2, 1, groups=2, calibration=calibration, context=WIDE, init=init).double().eval()
    x = torch.randn(2, 6, 4, 7, 7, dtype=torch.float64)
    alpha = conv.context(x)
    expected = naive_tada_conv2d(x, conv.weight, alpha, conv.bias, 2, 1, 1, 2, conv.calibration)
    torch.testing.assert_close(conv(x), expected)
    assert (alpha.std() > 0).all()


@pytest.mark.parametrize("calibration", ["cin", "cout", "cin_k2", "cin+cout"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.74])
def test_a_share_leaves_the_other_channels_uncalibrated(calibration, share):
    conv = TAdaConv2d(8, 12, 3, calibration=calibration, init="random", share=share).eval()
    alpha = conv._calibration(torch.randn(2, 8, 4, 5, 5))
    assert alpha.shape[1] == sum(conv.sizes.values())
    for part, (name, size) in zip(alpha.split(list(conv.sizes.values()), 1), conv.sizes.items(), strict=True):
        channels = size // (9 if name == "cin_k2" else 1)
        by_channel = part.unflatten(1, (channels, -1))
        calibrated = (by_channel != 1).any(-1).any(-1).any(0)
        assert int(calibrated.sum()) == max(1, round(share * channels))


def test_gradients_reach_every_parameter():
    conv = TAdaConv2d(4, 4, 3, padding=1, calibration="cin+cout+k2", init="random")
    conv(torch.randn(2, 4, 4, 6, 6)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_identity_init_learns_its_way_out_of_the_identity():
    conv = TAdaConv2d(4, 4, 3, padding=1)
    conv(torch.randn(2, 4, 4, 6, 6)).square().mean().backward()
    assert conv.context.last.weight.grad.abs().sum() > 0


def test_device_and_dtype_reach_the_context():
    conv = TAdaConv2d(4, 4, 3, dtype=torch.float64, device="meta")
    assert {(p.dtype, p.device.type) for p in conv.parameters()} == {(torch.float64, "meta")}


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_shapes_follow_on_the_meta_device(calibration):
    conv = TAdaConv2d(4, 8, 3, 2, 1, calibration=calibration, device="meta")
    assert conv(torch.empty(2, 4, 3, 9, 8, device="meta")).shape == (2, 8, 3, 5, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calibration": "k3"}, "unknown calibration 'k3'; one of: k2"),
        ({"share": 0.0}, "above 0 and at most 1, not 0.0"),
        ({"share": 1.5}, "above 0 and at most 1, not 1.5"),
        ({"share": 0.5, "calibration": "k2"}, "k2 has no channels to share out"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TAdaConv2d(4, 4, 3, **arguments)


def test_a_batch_of_images_is_refused():
    with pytest.raises(ValueError, match="clips must be"):
        TAdaConv2d(4, 4, 3)(torch.randn(2, 4, 5, 5))


def test_context_can_be_passed_as_a_description():
    conv = TAdaConv2d(16, 4, 1, context=Context(kernels=(5,), global_descriptor=False))
    assert [tuple(p.shape) for p in conv.context.parameters()] == [(16, 16, 5)]
