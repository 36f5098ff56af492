"""Features of videos as files, one a video: (T, C), in the formats in which they are handed on; and their manifest.

Read are NumPy's ``.npy`` and ``.npz``, ``.csv`` with a line a feature, and ``.pt`` of ``torch.save``. Pickles are not:
to open one runs the code that is in it.
"""

import io
import re
import warnings
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from tadaconv.errors import UserError
from tadaconv.files import write_file
from tadaconv.spec import Record, Temporal, describe

Array = NDArray[Any]

SUFFIXES: Final = (".npy", ".npz", ".csv", ".pt")
PICKLES: Final = (".pkl", ".pickle")
MANIFEST: Final = "features.json"
"""The file next to features that says where they come from."""


class FeatureManifest(Record):
    """The origin of a folder of features, as ``tada features`` writes it."""

    model: str = Field(description="What made them, as it was named: TABLE:ROW, a backbone, a checkpoint's file name.")
    cell: str = Field(description="Key of the trained cell; empty for others.")
    weights_fingerprint: str = Field(description="Hash of the file of weights; empty for weights of a package.")
    backbone: str = Field(description="Name of the backbone; empty for a checkpoint, which brings its own.")
    temporal: Temporal = Field(description="What is plugged into the backbone.")
    num_channels: int = Field(ge=1, description="C.")
    fps: float = Field(gt=0, description="Frames a second at which videos were seen.")
    window: int = Field(ge=1, description="Frames that a feature sees.")
    stride: int = Field(ge=1, description="Frames from one feature to the next.")
    offset: float = Field(description="Centre of what the first feature sees, in frames.")
    padded: bool = Field(description="Whether first and last frames were repeated, so that features reach the ends.")
    size: int = Field(ge=1, description="Height and width of the crop that was seen, in pixels.")
    tadaconv: str = Field(description="The version that wrote them.")


def read_manifest(folder: Path) -> FeatureManifest | None:
    """The manifest of a folder of features; None without one. Raises :class:`UserError` for one that is broken."""
    try:
        return FeatureManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = describe(error) if isinstance(error, ValidationError) else error.strerror
        raise UserError(
            f"{str(folder / MANIFEST)!r} is no manifest of features: {why}; remove it and give fps, stride and offset"
        ) from error


def write_manifest(folder: Path, manifest: FeatureManifest) -> None:
    """Write the manifest of a folder of features; raises OSError."""
    write_file(folder / MANIFEST, manifest.model_dump_json(indent=2))


def write_features(path: Path, features_TC: Array) -> None:
    """Write features in the format of ``path``'s suffix, one of :data:`SUFFIXES`; raises OSError."""
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        np.save(buffer, features_TC)
    elif path.suffix == ".npz":
        np.savez(buffer, feats=features_TC)
    elif path.suffix == ".csv":
        np.savetxt(buffer, features_TC, "%.9g", ",")
    else:
        import torch

        assert path.suffix == ".pt"
        torch.save(torch.from_numpy(features_TC), buffer)
    write_file(path, buffer.getvalue())


def convert_pickle(path: Path) -> str:
    """How to convert a pickle, for a line."""
    code = f"import pickle, numpy; numpy.save({path.stem + '.npy'!r}, pickle.load(open({path.name!r}, 'rb')))"
    return f'where you trust it, convert it once with: python -c "{code}"'


def read_features(path: Path) -> Array:
    """The features in a file, (T, C) of real numbers; those of an .npy file are mapped, and read as they are used.

    Raises :class:`UserError` with the reason, without the path, for what cannot be read or is no such array.
    """
    try:
        features = _read(path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error}); write it again") from error
    except (ValueError, EOFError, BadZipFile) as error:
        if re.search("pickle|Python objects", str(error)):
            raise UserError("holds Python objects, which are not loaded; save an array of numbers") from error
        raise UserError(f"is damaged or no {path.suffix} file; write it again") from error
    if features.ndim != 2 or 0 in features.shape:
        raise UserError(f"has shape {features.shape}, where (T, C) is expected; save a row for every feature")
    if features.dtype.kind not in "fiu":
        raise UserError(f"holds {features.dtype}, not real numbers; save float32")
    return features


def _read(path: Path) -> Array:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            key = "feats" if "feats" in arrays.files else arrays.files[0] if len(arrays.files) == 1 else ""
            if not key:
                raise UserError(f"has the arrays {', '.join(arrays.files) or '(none)'}; call that of features 'feats'")
            features: Array = arrays[key]
            return features
    if suffix == ".csv":
        return _read_csv(path)
    assert suffix == ".pt"
    return _read_tensor(path)


def _read_csv(path: Path) -> Array:
    """The rows of a table of numbers, with or without a line of names before them."""
    with path.open(encoding="utf-8") as lines:
        first = lines.readline().partition(",")[0]
    try:
        float(first)
        has_header = False
    except ValueError:
        has_header = True
    with warnings.catch_warnings():  # of a table without rows, whose shape is refused
        warnings.simplefilter("ignore", UserWarning)
        rows: Array = np.loadtxt(path, np.float32, delimiter=",", skiprows=int(has_header), ndmin=2)
    return rows


def _read_tensor(path: Path) -> Array:
    import torch

    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # broken bytes raise any kind of error
        raise UserError("is damaged, or holds more than a tensor; save the tensor alone with torch.save") from error
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"holds a {type(tensor).__name__}, not a tensor; save the tensor alone with torch.save")
    features: Array = tensor.float().numpy()
    return features
