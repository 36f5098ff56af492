"""What stands before or after a convolution, against loops: temporal convolution, TSM, TAM, squeeze-and-excitation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import assert_same, average, by_frame, clips, frame_conv, make, scatter
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.rivals.tam import TemporalAdaptiveModule
from tadaconv.models.rivals.tsm import TemporalShift
from tadaconv.nn import FrameConv2d

SIZES = st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))


def over_time(x: Tensor, t: int, tap: int, kernel: int) -> Tensor | None:
    """The frame that a temporal kernel's tap sees from frame t, or None outside the clip."""
    at = t + tap - kernel // 2
    return x[:, at] if 0 <= at < x.shape[1] else None


@given(sizes=SIZES, channels=st.tuples(st.integers(1, 3), st.integers(1, 3)), kernel=st.sampled_from([1, 3, 5]))
@settings(max_examples=25)
def test_temporal_convolution_by_loops(sizes, channels, kernel) -> None:
    num_clips, num_frames, height, width = sizes
    host = frame_conv(*channels, 3, padding=1)
    x = clips(num_clips, channels[0], num_frames, height, width)
    y = host(x)
    conv = make("temporal_conv", host, kernel=kernel)
    scatter(conv.after.parameters())
    v = conv.after.weight[..., 0, 0]

    def frame(n: int, t: int) -> Tensor:
        total = torch.zeros_like(y[n, :, t])
        for tap in range(kernel):
            seen = over_time(y[n], t, tap, kernel)
            for o in range(channels[1]):
                for i in range(channels[1]):
                    if seen is not None:
                        total = total + v[o, i, tap] * seen[i] * torch.eye(channels[1], dtype=v.dtype)[o][:, None, None]
        return total

    assert_same(conv(x), by_frame(y, frame), [x, host.weight, host.bias, conv.after.weight])


@pytest.mark.parametrize("num_clips", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_temporal_convolution_starts_as_the_identity_bit_for_bit(num_clips: int, dtype: torch.dtype) -> None:
    host = FrameConv2d(16, 24, 3, padding=1).to(dtype)
    x = clips(num_clips, 16, 5, 6, 6).to(dtype)
    expected = host(x)
    for kernel in (1, 3, 5):
        y = make("temporal_conv", FrameConv2d(24, 24, 1).to(dtype), kernel=kernel).after(expected)
        assert torch.equal(y, expected)
        assert y.is_contiguous(memory_format=torch.channels_last_3d)


@given(sizes=SIZES, moved=st.integers(1, 4), left=st.integers(0, 6))
def test_shift_by_loops(sizes, moved, left) -> None:
    channels = 2 * moved + left
    num_clips, num_frames, height, width = sizes
    x = clips(num_clips, channels, num_frames, height, width)

    def frame(n: int, t: int) -> Tensor:
        nothing = torch.zeros(height, width, dtype=x.dtype)
        planes = []
        for c in range(channels):
            source = t + 1 if c < moved else t - 1 if c < 2 * moved else t
            planes.append(x[n, c, source] if 0 <= source < num_frames else nothing)
        return torch.stack(planes)

    y = TemporalShift(moved)(x)
    expected = by_frame(x, frame)
    assert torch.equal(y, expected)
    (found,) = torch.autograd.grad(y, x, torch.ones_like(y))
    lost = torch.ones_like(x)
    lost[:, :moved, 0] = 0  # nobody sees the first frame of what comes from the next one
    lost[:, moved : 2 * moved, -1] = 0
    assert torch.equal(found, lost)


def test_shift_moves_an_eighth_each_way_before_the_convolution() -> None:
    host = frame_conv(16, 4, 3, padding=1)
    x = clips(2, 16, 4, 5, 5)
    moved = TemporalShift(2)(x)
    expected = torch.nn.functional.conv2d(moved.transpose(1, 2).flatten(0, 1), host.weight, host.bias, padding=1)
    shifted = make("tsm", host)
    torch.testing.assert_close(shifted(x), expected.unflatten(0, (2, 4)).transpose(1, 2))
    assert shifted.before.num_channels == 2
    assert make("tsm", frame_conv(16, 4, 1), share=0.5).before.num_channels == 8
    assert moved.is_contiguous(memory_format=torch.channels_last_3d)


def tam_by_loops(tam: TemporalAdaptiveModule, x: Tensor) -> Tensor:
    """Both branches, normalised as in evaluation, number by number."""
    num_clips, num_channels, num_frames = x.shape[:3]
    conv, norm, _, last, _ = tam.local_branch
    first, whole, _, second, _ = tam.global_branch

    def normalised(value: Tensor, norm: nn.BatchNorm1d, c: int) -> Tensor:
        return (value - norm.running_mean[c]) / (norm.running_var[c] + norm.eps).sqrt() * norm.weight[c] + norm.bias[c]

    def importance(v: Tensor, c: int, t: int) -> Tensor:
        total = x.new_zeros(())
        for h in range(conv.out_channels):
            hidden = x.new_zeros(())
            for tap in range(tam.kernel):
                seen = over_time(v, t, tap, tam.kernel)
                for i in range(num_channels):
                    hidden = hidden + (0 if seen is None else conv.weight[h, i, tap] * seen[i])
            total = total + last.weight[c, h, 0] * normalised(hidden, norm, h).clamp(min=0)
        return 1 / (1 + torch.exp(-total))

    def adaptive_kernel(row: Tensor) -> list[Tensor]:
        hidden = [
            normalised(sum(first.weight[h, t] * row[t] for t in range(num_frames)), whole, h).clamp(min=0)
            for h in range(first.out_features)
        ]
        powers = [
            torch.exp(sum(second.weight[k, h] * value for h, value in enumerate(hidden))) for k in range(tam.kernel)
        ]
        return [power / sum(powers) for power in powers]

    descriptors = [torch.stack([average(x[n, :, t]) for t in range(num_frames)], 1) for n in range(num_clips)]
    kernels = [[adaptive_kernel(descriptors[n][c]) for c in range(num_channels)] for n in range(num_clips)]
    weighed = torch.stack(
        [
            torch.stack(
                [
                    torch.stack([importance(v, c, t) * x[n, c, t] for t in range(num_frames)])
                    for c in range(num_channels)
                ]
            )
            for n, v in enumerate(descriptors)
        ]
    )

    def frame(n: int, t: int) -> Tensor:
        planes = []
        for c in range(num_channels):
            plane = torch.zeros_like(x[n, c, t])
            for tap in range(tam.kernel):
                seen = over_time(weighed[n], t, tap, tam.kernel)
                plane = plane + (0 if seen is None else kernels[n][c][tap] * seen[c])
            planes.append(plane)
        return torch.stack(planes)

    return by_frame(x, frame)


@given(
    sizes=SIZES,
    channels=st.integers(1, 5),
    kernel=st.sampled_from([1, 3, 5]),
    reduction=st.integers(1, 4),
    expansion=st.integers(1, 2),
)
@settings(max_examples=15)
def test_tam_by_loops(sizes, channels, kernel, reduction, expansion) -> None:
    torch.manual_seed(0)
    num_clips, num_frames, height, width = sizes
    reduction = min(reduction, channels)
    tam = TemporalAdaptiveModule(channels, num_frames, kernel, reduction, expansion).double().eval()
    for norm in (tam.local_branch[1], tam.global_branch[1]):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, 0.5, 1)
    x = clips(num_clips, channels, num_frames, height, width)
    actual, expected = tam(x), tam_by_loops(tam, x)
    torch.testing.assert_close(actual, expected)
    sources = [x, *tam.parameters()]
    pairs = [torch.autograd.grad(y.square().sum(), sources) for y in (actual, expected)]
    for found, true in zip(*pairs, strict=True):
        torch.testing.assert_close(found, true)


def test_tam_is_before_the_convolution_and_learns() -> None:
    torch.manual_seed(0)
    host = frame_conv(8, 6, 3, padding=1, bias=False)
    x = clips(2, 8, 4, 5, 5)
    conv = make("tam", host, 4)
    y = conv(x)  # in training mode, norms by the batch
    plain = nn.functional.conv2d(conv.before(x).transpose(1, 2).flatten(0, 1), host.weight, padding=1)
    torch.testing.assert_close(y, plain.unflatten(0, (2, 4)).transpose(1, 2))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())
    assert [tuple(p.shape) for p in conv.before.parameters() if p.dim() > 1] == [(2, 8, 3), (8, 2, 1), (8, 4), (3, 8)]


def test_tam_is_for_one_number_of_frames() -> None:
    with pytest.raises(UserError, match=r"^tam learns over a fixed number of frames; give it with plug_in") as error:
        make("tam", frame_conv(4, 4, 3), None)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"^this TAM learns over 8 frames, not 4; plug it in for that many$"):
        make("tam", frame_conv(4, 4, 3), 8)(clips(1, 4, 4, 5, 5))


@given(sizes=SIZES, channels=st.integers(1, 6), reduction=st.integers(1, 8))
@settings(max_examples=25)
def test_squeeze_and_excitation_by_loops(sizes, channels, reduction) -> None:
    torch.manual_seed(0)
    num_clips, num_frames, height, width = sizes
    host = frame_conv(2, channels, 1)
    x = clips(num_clips, 2, num_frames, height, width)
    y = host(x)
    reduction = min(reduction, channels)
    conv = make("squeeze_excitation", host, reduction=reduction)
    nn.init.uniform_(conv.after.squeeze.bias, 2, 3)  # no hidden unit is dead
    squeeze, excite = conv.after.squeeze, conv.after.excite
    assert squeeze.out_features == channels // reduction

    def frame(n: int, t: int) -> Tensor:
        v = average(y[n, :, t])
        hidden = [
            (sum(squeeze.weight[h, c] * v[c] for c in range(channels)) + squeeze.bias[h]).clamp(min=0)
            for h in range(squeeze.out_features)
        ]
        scales = [
            1 / (1 + torch.exp(-sum(excite.weight[c, h] * value for h, value in enumerate(hidden)) - excite.bias[c]))
            for c in range(channels)
        ]
        return torch.stack([scales[c] * y[n, c, t] for c in range(channels)])

    assert_same(conv(x), by_frame(y, frame), [x, *conv.parameters()])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("temporal_conv", {"kernel": 2}, "kernel must be a positive odd number of frames, not 2"),
        ("temporal_conv", {"kernel": -1}, "kernel must be a positive odd number of frames, not -1"),
        ("tsm", {"share": 0.0}, r"above 0 and at most 0\.5, not 0\.0"),
        ("tsm", {"share": 0.51}, r"above 0 and at most 0\.5, not 0\.51"),
        ("tsm", {"share": 0.01}, r"share=0\.01 shifts none of 16 channels; raise it"),
        ("tam", {"kernel": 4}, "kernel must be a positive odd number of frames, not 4"),
        ("tam", {"reduction": 0}, "reduction must be at least 1, not 0"),
        ("tam", {"expansion": 0}, "expansion must be at least 1, not 0"),
        ("tam", {"kernel": 5}, "kernel=5 is over more than the 4 frames here; lower it"),
        ("tam", {"reduction": 17}, "reduction=17 leaves none of 16 channels; lower it"),
        ("squeeze_excitation", {"reduction": 0}, "reduction must be at least 1, not 0"),
        ("squeeze_excitation", {"reduction": 17}, "reduction=17 leaves none of 16 channels; lower it"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(name, FrameConv2d(16, 16, 3), 4, **options)


@pytest.mark.parametrize("name", ["temporal_conv", "tsm", "tam", "squeeze_excitation"])
def test_any_convolution_can_have_one_of_them(name: str) -> None:
    conv = make(name, nn.Conv3d(16, 16, 3, padding=1).double(), 4)
    assert conv(clips(1, 16, 4, 5, 5)).shape == (1, 16, 4, 5, 5)
    with pytest.raises(UserError, match=r"this Conv3d already has a rival .* it; place one per convolution"):
        make(name, conv, 4)
    with pytest.raises(UserError, match="needs a Conv2d or a Conv3d, not Linear"):
        make(name, nn.Linear(8, 8), 4)
