"""Features by frame: their mean over time, through the classifier, is the network's own score of the clip."""

import pytest
import torch
from standins import ImageResNet
from torch import Tensor

from tadaconv.errors import UserError
from tadaconv.models import build, plug_in
from tadaconv.models.convnext import ConvNeXt
from tadaconv.models.resnet import ResNet
from tadaconv.spec import Backbone, TAda


def small(name: str, temporal: TAda | None) -> ResNet | ConvNeXt:
    torch.manual_seed(3)
    network = build(Backbone(name=name), temporal, num_classes=5).double().eval()
    assert isinstance(network, ResNet | ConvNeXt)
    for parameter in network.parameters():  # away from a start at which a plug-in changes nothing
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def classified(network: ResNet | ConvNeXt, features_NC: Tensor) -> Tensor:
    scores: Tensor = (network.fc if isinstance(network, ResNet) else network.head)(features_NC)
    return scores


@pytest.mark.parametrize("temporal", [None, TAda()], ids=["plain", "TAda"])
@pytest.mark.parametrize(
    ("name", "stride"), [("tiny", 1), ("tiny_r2plus1d", 1), ("tiny_slow_only_8x8", 1), ("tiny_convnext_clip", 2)]
)
def test_the_mean_of_features_by_frame_gives_the_scores(name: str, stride: int, temporal: TAda | None) -> None:
    network = small(name, temporal)
    clips = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features_NCT, scores = network.features(clips), network(clips)
    assert features_NCT.shape[2] == 4 // stride
    assert features_NCT.std(2).max() > 1e-3  # frames differ, so that the mean is over something
    torch.testing.assert_close(classified(network, features_NCT.mean(2)), scores, rtol=1e-9, atol=1e-9)


def test_without_operators_over_time_a_frame_has_the_features_it_has_alone() -> None:
    network = small("tiny", None)
    clips = torch.randn(1, 3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        together, alone = network.features(clips), [network.features(clips[:, :, t : t + 1]) for t in range(3)]
    torch.testing.assert_close(together, torch.cat(alone, 2), rtol=1e-9, atol=1e-9)


def test_a_convnext_whose_frames_cannot_be_paired_has_no_features_either() -> None:
    with pytest.raises(UserError, match="even number of frames"):
        small("tiny_convnext_clip", None).features(torch.zeros(1, 3, 3, 32, 32, dtype=torch.float64))


def test_networks_without_features_by_frame_say_so_in_one_line() -> None:
    for network in (build(Backbone(name="tiny_slowfast_8x8"), None, 5), plug_in(ImageResNet(), None)):
        with pytest.raises(UserError, match="no features by frame; take a ResNet") as refusal:
            network.features(torch.zeros(1, 3, 8, 32, 32))
        assert "\n" not in str(refusal.value)
