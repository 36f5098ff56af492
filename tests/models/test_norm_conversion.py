"""What converts or freezes the norms of a plugged network: every branch is converted, and computes what it did."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from standins import ImageResNet, VideoResNet, off_their_start, real
from torch import Tensor, nn
from torch.func import functional_call

from tadaconv.models import BACKBONES, plug_in
from tadaconv.spec import TAda

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{
        name: lambda name=name: BACKBONES[name](5, 0.0)
        for name in ("tiny", "tiny_slowfast_4x16", "tiny_r2plus1d", "tiny_r3d", "tiny_convnext_clip")
    },
    "image model": ImageResNet,
    "video model": lambda: VideoResNet("r3d"),
}


class Frozen(nn.Module):
    """An affine map with a norm's statistics, of frames alone, as those of timm, torchvision and Detectron2 are."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())
        self.eps = norm.eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        assert x_BCHW.dim() == 4
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x_BCHW * scale[:, None, None] + shift[:, None, None]


def freeze(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        return Frozen(module)
    for name, child in module.named_children():
        module.add_module(name, freeze(child))
    return module


def freeze_by_timm(module: nn.Module) -> nn.Module:
    real("timm")
    from timm.layers import freeze_batch_norm_2d

    frozen: nn.Module = freeze_batch_norm_2d(module)
    return frozen


CONVERTERS = {"sync": nn.SyncBatchNorm.convert_sync_batchnorm, "freeze": freeze, "freeze by timm": freeze_by_timm}


@pytest.fixture(params=NETWORKS)
def plugged(request: pytest.FixtureRequest) -> nn.Module:
    """A network off its start, with random statistics, calibrations and second branches."""
    torch.manual_seed(0)
    return off_their_start(plug_in(NETWORKS[request.param](), TAda(init="random"))).eval()


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(2, 3, 16, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("converter", CONVERTERS)
def test_a_converted_network_computes_the_same(converter: str, plugged: nn.Module, clips: Tensor) -> None:
    converted = CONVERTERS[converter](deepcopy(plugged)).eval()
    kinds = nn.BatchNorm2d if "freeze" in converter else nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    assert not any(isinstance(module, kinds) for module in converted.modules())
    with torch.no_grad():
        torch.testing.assert_close(converted(clips), plugged(clips), rtol=1e-4, atol=1e-5)
        for name, module in converted.named_modules():
            if name.endswith(("bn_pool", "ln_pool")):
                module.weight.data.zero_()
                module.bias.data.zero_()
        difference = (converted(clips) - plugged(clips)).abs().max()
    assert difference > 1e-4  # both branches had a part in it


def test_a_frozen_network_keeps_its_statistics_in_training(plugged: nn.Module, clips: Tensor) -> None:
    statistics = ("running_mean", "running_var")
    frozen = freeze(deepcopy(plugged)).train()
    norms = {name: module for name, module in frozen.named_modules() if isinstance(module, Frozen)}
    before = {name: [getattr(norm, s).clone() for s in statistics] for name, norm in norms.items()}
    frozen(clips)
    for name, norm in norms.items():
        assert all(torch.equal(getattr(norm, s), old) for s, old in zip(statistics, before[name], strict=True))
        assert not list(norm.parameters())


def test_state_dicts_name_a_norm_as_the_host_did(plugged: nn.Module, request: pytest.FixtureRequest) -> None:
    host = plug_in(NETWORKS[request.node.callspec.params["plugged"]](), None)
    added = ("bn_pool.", "ln_pool.", "context.", "pool.")
    names = [name for name in plugged.state_dict() if not any(part in name for part in added)]
    assert names == list(host.state_dict())
    assert host.load_state_dict({name: plugged.state_dict()[name] for name in names}).missing_keys == []
    fresh = deepcopy(plugged)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(plugged.state_dict())
    for name, value in plugged.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def test_a_network_can_be_called_with_the_values_of_a_state_dict(plugged: nn.Module, clips: Tensor) -> None:
    other = deepcopy(plugged)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        torch.testing.assert_close(functional_call(other, plugged.state_dict(), clips), plugged(clips))
        assert other(clips).abs().max() == 0
