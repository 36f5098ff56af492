"""Paths and fingerprints of weights, pretrained and trained; reads none, and needs no torch."""

import hashlib
from pathlib import Path

from tadaconv.errors import UserError
from tadaconv.spec import Backbone


def fingerprint(file: Path) -> str:
    """16 hex digits of the SHA-256 of a file of weights; raises :class:`UserError` where it cannot be read."""
    if file.exists() and not file.is_file():  # to open a FIFO would wait for a writer
        raise UserError(
            f"the weights {str(file)!r} are not a regular file; name a file, timm:<name> or torchvision:<name>"
        )
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(
            f"cannot read the weights {str(file)!r}: {error.strerror}; name a file, timm:<name> or torchvision:<name>"
        ) from error


def resolve_weights(backbone: Backbone) -> Backbone:
    """The backbone with the fingerprint of its file of weights, by which its cells are known, whatever the path.

    Weights named by a package, and none, need no fingerprint. Raises :class:`UserError` where the file cannot be read.
    """
    if backbone.weights_file is None:
        return backbone
    return backbone.but(weights_fingerprint=fingerprint(backbone.weights_file))


def weights_beside(checkpoint: Path) -> Path:
    """Where a training run stores its trained weights until the result is stored."""
    return checkpoint.with_suffix(".weights")


def scores_beside(checkpoint: Path) -> Path:
    """Where a training run stores the class probabilities of the validation clips until the result is stored."""
    return checkpoint.with_suffix(".scores.npz")
