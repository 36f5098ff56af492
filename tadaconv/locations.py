"""Where clips and weights are on this machine. Descriptions and keys of experiments contain no paths.

Clips and files of weights are known by fingerprints: a description with a path and one without have the same key. A
storage keeps the paths of whoever queued a cell next to its description, for workers that know
no other place, and a worker's call has the paths of its own machine by fingerprint.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tadaconv.errors import UserError
from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Experiment, Features, Folder
from tadaconv.text import path_to_text, text_to_path
from tadaconv.weights import resolve_weights

Tree = Mapping[str, Any]
"""An experiment as JSON-ready data."""


def resolve_data(regime: Regime, root: Path | None, cache: Path) -> Regime:
    """The regime on the clips it will train on: for a regime of folder data, those under ``root``.

    What is known of the clips is kept in ``cache``; those of class folders are decoded once, of other layouts their
    check has done so. A file of pretrained weights gets its fingerprint.

    Args:
        regime: as its file has it.
        root: the folder of clips, ``--data``.
        cache: the folder of indices.

    Raises:
        UserError: a folder regime without a root, a root where the regime makes its own clips, or clips or weights that
            cannot be used.
    """
    regime = regime.with_weights(resolve_weights)
    if isinstance(regime.data, Features):
        if root is None:
            raise UserError("this regime needs features: add --data DIR, a folder of features and their annotations")
        from tadaconv.data.feature_check import resolve_all

        return regime.with_features(resolve_all(regime.data, root, cache))
    if not isinstance(regime.data, Folder):
        if root is not None:
            raise UserError("--data is for regimes on a folder of clips, such as 'folder'; this regime makes its own")
        return regime
    if root is None:
        is_classes = regime.data.layout == "classes"
        holds = "with train/<class>/* and val/<class>/*" if is_classes else f"of layout {regime.data.layout}"
        raise UserError(f"this regime needs clips: add --data DIR, a folder {holds}")
    from tadaconv.data.folder import resolve

    return regime.with_clips(resolve(regime.data, root, cache))


def as_planned(regime: Regime, planned: Iterable[Tree]) -> Regime:
    """The regime with the clips and weights that it was last planned on, where it names only their kind.

    Args:
        regime: as its file has it.
        planned: experiments, the latest last.

    Raises:
        UserError: no experiment was planned with a file of weights, and it cannot be read.
    """
    trees = list(planned)
    data = regime.data
    if isinstance(data, Folder):
        latest_first = (tree["data"] for tree in reversed(trees) if tree["data"]["kind"] == "folder")
        data = data.as_found(map(Folder.model_validate, latest_first))
    if isinstance(data, Features):
        by_folder: dict[str, Features] = {}
        for tree in trees:
            if tree["data"]["kind"] == "features":
                planned_on = Features.model_validate(tree["data"])
                by_folder[planned_on.folder] = data.but(folder=planned_on.folder).as_found([planned_on])
        regime = regime.with_features(by_folder.values())
        data = regime.data

    def weighted(backbone: Backbone) -> Backbone:
        if backbone.weights_file is None:
            return backbone
        hosts = [tree["backbone"] for tree in trees if tree["backbone"].get("weights") == backbone.weights]
        if not hosts:
            return resolve_weights(backbone)
        return backbone.but(weights_fingerprint=hosts[-1].get("weights_fingerprint", ""))

    return regime.with_clips(data).with_weights(weighted)


def places_of(regime: Regime) -> dict[str, str]:
    """Where the clips and weights of a regime are, by fingerprint: another machine may have queued the same cells."""
    places = {}
    if isinstance(regime.data, Folder):
        places[regime.data.fingerprint] = regime.data.index or regime.data.root
    places.update({one.fingerprint: one.root for one in regime.feature_sets})
    return places | {
        host.weights_fingerprint: host.weights for host in regime.backbones if host.weights_file is not None
    }


def at_home(experiment: Experiment, places: Mapping[str, str], cache: Path) -> Experiment:
    """The experiment with its clips and weights where they are on this machine, as far as that is known.

    Args:
        experiment: as it was queued, with the paths of whoever queued it.
        places: paths of this machine, by fingerprint.
        cache: the folder of this machine's indices.
    """
    data, backbone = experiment.data, experiment.backbone
    if isinstance(data, Features):
        experiment = experiment.but(data__root=places.get(data.fingerprint, data.root))
    elif isinstance(data, Folder) and data.index:
        experiment = experiment.but(data__index=path_to_text(_index(data, places, cache)))
    elif isinstance(data, Folder) and data.fingerprint in places:
        experiment = experiment.but(data__root=places[data.fingerprint])
    if backbone.weights_file is not None and backbone.weights_fingerprint in places:
        experiment = experiment.but(backbone__weights=places[backbone.weights_fingerprint])
    return experiment


def why_missing(experiment: Experiment, places: Mapping[str, str], cache: Path) -> str | None:
    """What of an experiment's clips and weights is not on this machine, in words; None if all are.

    Args:
        experiment: as it was queued, with the paths of whoever queued it.
        places: paths of this machine, by fingerprint.
        cache: the folder of this machine's indices.
    """
    data, backbone = experiment.data, experiment.backbone
    if isinstance(data, Folder) and data.index and not _index(data, places, cache).is_dir():
        return f"the index of its clips is not here: share {data.index}, or copy it to {cache}"
    is_named = isinstance(data, Folder | Features) and data.fingerprint not in places
    if isinstance(data, Folder | Features) and is_named and not data.path.is_dir():
        what = "features" if isinstance(data, Features) else "clips"
        return f"its {what}, {data.root}, are not on this machine"
    weights = backbone.weights_file
    if weights is not None and backbone.weights_fingerprint not in places and not weights.is_file():
        return f"its weights, {weights}, are not on this machine"
    return None


def _index(data: Folder, places: Mapping[str, str], cache: Path) -> Path:
    """The index of the clips: where this machine knows it, or where it was made, or of that name in ``cache``."""
    made = text_to_path(places.get(data.fingerprint, data.index))
    return made if made.is_dir() else cache.absolute() / made.name


_PATHS = (("data", "root"), ("data", "index"), ("backbone", "weights"))
"""Fields of a description that are paths; weights are one if they have a fingerprint, which those of a package lack."""


def apart(tree: Tree) -> tuple[dict[str, Any], dict[str, str]]:
    """The description of an experiment without paths, and its paths by the names of their fields."""
    described, places = dict(tree), {}
    for part, name in _PATHS:
        fields = described.get(part, {})
        if fields.get(name) and (part == "data" or fields.get("weights_fingerprint")):
            places[name] = fields[name]
            described[part] = {**fields, name: ""}
    return described, places


def together(tree: Tree, places: Mapping[str, str]) -> dict[str, Any]:
    """The description that :func:`apart` took apart; one that was stored with its paths has no ``places``."""
    described = dict(tree)
    for part, name in _PATHS:
        if name in places:
            described[part] = {**described[part], name: places[name]}
    return described
