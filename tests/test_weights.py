"""Pretrained weights in a description: a file counts by its content, wherever it lies, and never without it."""

import hashlib
import os
from pathlib import Path

import pytest

from tadaconv.errors import UserError
from tadaconv.locations import resolve_data
from tadaconv.regimes.quick import REGIME
from tadaconv.spec import Backbone, Experiment
from tadaconv.weights import fingerprint, resolve_weights


def experiment(backbone: Backbone) -> Experiment:
    return REGIME.but(backbone=backbone).experiment(None, seed=0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    return path


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    with pytest.raises(
        UserError, match=r"weights\.pth' are not a regular file; name a file, timm:<name> or torchvision:"
    ):
        fingerprint(tmp_path / "weights.pth")


def test_a_fingerprint_is_the_hash_of_the_content(file: Path) -> None:
    assert fingerprint(file) == hashlib.sha256(b"one").hexdigest()[:16]
    assert resolve_weights(Backbone(name="tiny", weights=str(file))).weights_fingerprint == fingerprint(file)


def test_the_key_follows_the_content_and_not_the_path(file: Path, tmp_path: Path) -> None:
    here = experiment(resolve_weights(Backbone(name="tiny", weights=str(file))))
    moved = tmp_path / "moved.pth"
    file.rename(moved)
    assert experiment(resolve_weights(Backbone(name="tiny", weights=str(moved)))).key == here.key
    moved.write_bytes(b"two")
    assert experiment(resolve_weights(Backbone(name="tiny", weights=str(moved)))).key != here.key
    assert experiment(Backbone(name="tiny")).key != here.key


@pytest.mark.parametrize("weights", ["", "timm:resnet50.a1_in1k", "torchvision:ResNet50_Weights.IMAGENET1K_V1"])
def test_what_is_no_file_has_no_fingerprint(weights: str) -> None:
    backbone = Backbone(name="resnet50", weights=weights)
    assert resolve_weights(backbone) == backbone
    assert experiment(backbone).key


def test_named_weights_are_part_of_the_key() -> None:
    names = ["", "timm:resnet50.a1_in1k", "timm:resnet50.tv_in1k", "torchvision:ResNet50_Weights.IMAGENET1K_V1"]
    assert len({experiment(Backbone(name="resnet50", weights=name)).key for name in names}) == len(names)


def test_a_file_without_its_fingerprint_has_no_key(file: Path) -> None:
    with pytest.raises(UserError, match="have no fingerprint; pass the backbone through") as error:
        _ = experiment(Backbone(name="tiny", weights=str(file))).key
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the weights '.*gone.pth': No such file") as error:
        resolve_weights(Backbone(name="tiny", weights=str(tmp_path / "gone.pth")))
    assert "\n" not in str(error.value)


def test_a_regime_gets_the_fingerprint_where_it_gets_its_data(file: Path, tmp_path: Path) -> None:
    regime = REGIME.but(backbone__weights=str(file))
    assert resolve_data(regime, None, tmp_path).backbone.weights_fingerprint == fingerprint(file)
    assert resolve_data(REGIME, None, tmp_path) == REGIME
