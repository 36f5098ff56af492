"""Networks on untrimmed clips: a backbone whose features are averaged over windows of frames, and a localizer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tadaconv.models import build
from tadaconv.models.host import Host, Site
from tadaconv.models.localizers import Localizer, make_localizer
from tadaconv.spec import Experiment, Features, Localization, Untrimmed


class FeatureBackbone(nn.Module):
    """Features by window of frames: the mean over it of what a backbone without its classifier makes of each frame.

    The backbone sees the whole clip: operators over time look beyond a window, and a global descriptor is the clip's.

    Args:
        host: the backbone, whose classifier is removed.
        window: P, frames of a window.
    """

    def __init__(self, host: Host, window: int) -> None:
        super().__init__()
        self.num_features = host.drop_classifier()
        self.host, self.window = host, window

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, 3, T, H, W) to (N, C, T / P); T is a multiple of P."""
        num_steps = x_NCTHW.shape[2] // self.window
        features_NCPT: Tensor = self.host.features(x_NCTHW).unflatten(2, (num_steps, -1))
        return features_NCPT.mean(3)


class LocalizingNetwork(Host):
    """Clips or features of untrimmed videos to what a localizer says of them.

    Args:
        backbone: makes features of clips; None where the videos are features already.
        localizer: finds segments in features.
    """

    def __init__(self, backbone: FeatureBackbone | None, localizer: Localizer[Any]) -> None:
        super().__init__()
        self.backbone, self.localizer = backbone, localizer

    def sites(self) -> Iterator[Site]:
        """Those of the backbone."""
        if self.backbone is None:
            return
        for site in self.backbone.host.sites():
            within = "backbone.host."
            yield replace(site, conv=within + site.conv, norm=within + site.norm, entry=within + site.entry)

    def forward(self, x: Tensor, lengths_N: Tensor | None = None) -> Any:
        """The outputs of the localizer.

        Args:
            x: clips (N, 3, T, H, W), or features (N, C, T) without a backbone.
            lengths_N: steps of each video, int64; None where all have the same.
        """
        features_NCT = x if self.backbone is None else self.backbone(x)
        if lengths_N is None:
            num_videos, _, num_steps = features_NCT.shape
            lengths_N = torch.full((num_videos,), num_steps, device=x.device)
        return self.localizer(features_NCT, lengths_N)


def build_model(experiment: Experiment, num_classes: int | Sequence[int]) -> Host:
    """The network of ``experiment``, its weights drawn from the experiment's seed.

    The backbone is drawn before the plug-in, so rows of one seed share the backbone's weights, and the localizer
    after it, from the same seed. The global random state is left as it was.

    Args:
        experiment: what is run.
        num_classes: of its clips, or of each label where they have several.
    """
    num_classes = [num_classes] if isinstance(num_classes, int) else num_classes
    temporal, data = experiment.temporal, experiment.data
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        if experiment.localization is None:
            return build(experiment.backbone, temporal, sum(num_classes), data.num_frames)
        if isinstance(data, Features):
            return localizing_network(None, experiment.localization, num_classes, data.num_steps, data.shapes[0][0])
        assert isinstance(data, Untrimmed)
        host = build(experiment.backbone, temporal, sum(num_classes), data.num_frames)
        torch.manual_seed(experiment.seed)
        backbone = FeatureBackbone(host, data.window)
        return localizing_network(backbone, experiment.localization, num_classes, data.num_steps, backbone.num_features)


def localizing_network(
    backbone: FeatureBackbone | None,
    localization: Localization,
    num_classes: Sequence[int],
    num_steps: int,
    num_features: int,
) -> LocalizingNetwork:
    """The network of an experiment that localizes.

    Args:
        backbone: makes features of clips; None on features.
        localization: which localizer.
        num_classes: of each label.
        num_steps: steps of the longest window.
        num_features: channels of the features.
    """
    localizer = make_localizer(localization.localizer, num_features, num_classes, num_steps)
    return LocalizingNetwork(backbone, localizer)
