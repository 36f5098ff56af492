"""Descriptions: what they accept, how they say no, and that the cell key follows from their content alone."""

import json
from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tadaconv.errors import UserError, lookup, unknown
from tadaconv.spec import (
    BMN,
    CALIBRATIONS,
    FACTORS,
    Aggregation,
    Backbone,
    Context,
    Experiment,
    Features,
    Folder,
    Localization,
    Placement,
    Point,
    Rival,
    Sampling,
    Schedule,
    Spec,
    Suppression,
    Synthetic,
    TAda,
    Untrimmed,
    calibration_factors,
    describe,
)

PLAIN = Experiment(
    backbone=Backbone(name="tiny"),
    data=Synthetic(num_train=8, num_val=4),
    schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
)
ADAPTIVE = PLAIN.but(temporal=TAda())
ON_VIDEOS = ADAPTIVE.but(data=Folder(root="/clips", fingerprint="ab12", num_classes=2))
IN_VIEWS = ON_VIDEOS.but(data__num_temporal_views=3)

LOCALIZING = ADAPTIVE.but(data=Untrimmed(num_train=8, num_val=4), localization=Localization())
ON_FEATURES = PLAIN.but(
    data=Features(root="/features", fingerprint="ab12", num_steps=8, fps=30.0, stride=4.0, offset=2.0),
    localization=Localization(localizer=BMN()),
)

OTHER_VALUES: dict[type[Spec], dict[str, Any]] = {
    Backbone: {
        "name": "resnet18", "dropout": 0.5, "weights": "timm:resnet50.a1_in1k", "weights_fingerprint": "ef56",
    },
    Context: {
        "kernels": (1, 3), "global_descriptor": False, "reduction": 2, "norm": "layer", "descriptor": "max",
        "variation": "static",
    },
    Aggregation: {"kind": "max", "kernel": 5},
    Placement: {"stages": (4, 5), "blocks": "first", "convs": "both", "share": 0.5},
    Rival: {"name": "none", "options": {"kernel": 3}},
    TAda: {"calibration": "cout", "init": "random"},
    Synthetic: {
        "num_frames": 4, "size": 16, "num_train": 9, "num_val": 5, "noise": 0.2, "seed": 1, "families": ("turn", "set"),
        "val_twins": True,
    },
    Folder: {
        "root": "/elsewhere", "fingerprint": "cd34", "num_classes": 3, "num_frames": 4, "size": 64, "short_side": 72,
        "mirror": "no", "num_temporal_views": 2, "num_spatial_crops": 3, "val_share": 0.5,
        "short_clips": "repeat", "eval_size": 72, "jitter": (1.0, 1.25), "layout": "ucf101", "split": "2",
        "index": "/an/index", "num_listed": (9, 4), "num_missing": (2, 1),
    },
    Sampling: {"kind": "intervals", "rule": "paper", "interval": 4, "fps": 60.0},
    Schedule: {
        "optimizer": "adamw", "epochs": 2, "batch_size": 4, "lr": 0.2, "warmup_epochs": 0.5, "warmup_lr": 0.0,
        "momentum": 0.8, "weight_decay": 0.0, "clip_norm": 1.0, "cosine": "all_epochs", "evaluate_every": 2,
        "curve_views": "one", "curve_clips": 3, "norm_batch": 2,
    },
    Untrimmed: {
        "num_frames": 64, "size": 24, "window": 4, "num_train": 9, "num_val": 6, "noise": 0.2, "seed": 1,
    },
    Features: {
        "root": "/elsewhere", "folder": "tsn", "annotations": "a.json", "subsets": ("train", "val"), "index": "/i.json",
        "fingerprint": "cd34", "num_channels": 4, "num_classes": 3, "num_listed": (9, 4), "num_missing": (2, 1),
        "fps": 15.0, "stride": 8.0, "offset": 4.0, "features_per_step": 2, "num_steps": 16, "window_stride": 2,
        "missing": "leave_out",
    },
    Point: {"width": 64, "levels": 3},
    BMN: {
        "max_duration": 4, "num_samples": 8, "widths": (8, 8, 8), "groups": 2, "conventions": "authors",
        "fusion": "video", "powers": (1.2, 1.0), "boundary_scores": True,
    },
    Suppression: {"sigma": 0.4, "exponent": 2.5, "low": 0.25, "high": 0.9, "by_class": False, "most": 50},
    Localization: {"tious": (0.5,), "rule": "authors"},
    Experiment: {"seed": 1},
}  # fmt: skip
"""A valid value other than the one in the examples above, for every field that is not a description itself."""

PLACES = (
    "data__root", "data__index", "data__split", "data__folder", "data__annotations", "data__subsets",
)  # fmt: skip
"""Where clips and the lists of them lie; which clips there are says the fingerprint."""


def leaves(spec: Spec, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of ``spec`` that can be changed alone, as ``but`` names it, with another value for it."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, Spec):
            yield from leaves(value, f"{prefix}{name}__")
        elif name not in ("kind", "protocol", "temporal", "localization", "resize") or name in OTHER_VALUES[type(spec)]:
            yield prefix + name, OTHER_VALUES[type(spec)][name]


CHANGED = (ADAPTIVE, IN_VIEWS, LOCALIZING, ON_FEATURES)
CHANGES = [(experiment, field, value) for experiment in CHANGED for field, value in leaves(experiment)]


def test_a_description_without_localization_is_written_as_ever() -> None:
    assert "localization" not in PLAIN.model_dump_json()
    assert "localization" in LOCALIZING.model_dump_json()


@pytest.mark.parametrize(
    ("experiment", "changes", "words"),
    [
        (PLAIN, {"localization": Localization()}, "clips with a class have no segments"),
        (LOCALIZING, {"localization": None}, r"untrimmed clips have segments, so .*localization=Localization"),
        (ON_FEATURES, {"temporal": TAda()}, "features are made already"),
        (LOCALIZING, {"data__num_frames": 100}, "multiple of window"),
        (LOCALIZING, {"localization__tious": (0.5, 0.3)}, "ascend"),
        (ON_FEATURES, {"data__offset": None}, "fps, stride without offset: give all three"),
        (ON_FEATURES, {"data__resize": True}, "leave out fps, stride, offset"),
        (ON_FEATURES, {"data__window_stride": 9}, "leaves gaps between windows of 8"),
    ],
)
def test_a_task_needs_its_data(experiment: Experiment, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        experiment.but(**changes)


@pytest.mark.parametrize("experiment", [PLAIN, ADAPTIVE, ON_VIDEOS, LOCALIZING, ON_FEATURES])
def test_json_round_trip(experiment: Experiment) -> None:
    again = Experiment.model_validate_json(experiment.model_dump_json())
    assert again == experiment
    assert again.key == experiment.key
    assert Experiment.model_validate(json.loads(experiment.model_dump_json())) == experiment
    assert Experiment.model_validate(experiment.model_dump()) == experiment


def test_key_is_the_hash_of_sorted_compact_json() -> None:
    tree = json.loads(ON_VIDEOS.canonical_json())
    assert "root" not in tree["data"]
    whole = ON_VIDEOS.model_dump(mode="json")
    del whole["data"]["root"], whole["temporal"]["placement"]["convs"]
    del whole["backbone"]["weights"], whole["backbone"]["weights_fingerprint"]
    assert tree == whole
    assert ON_VIDEOS.canonical_json() == json.dumps(tree, sort_keys=True, separators=(",", ":"))
    assert len(ON_VIDEOS.key) == 16
    assert int(ON_VIDEOS.key, 16) >= 0


def test_key_of_a_known_experiment_never_changes() -> None:
    # Whoever makes this fail changes what earlier results are found under: raise PROTOCOL and record it.
    assert PLAIN.canonical_json() == (
        '{"backbone":{"dropout":0.0,"name":"tiny"},"data":{"kind":"synthetic","noise":0.1,"num_frames":8,"num_train":8,'
        '"num_val":4,"seed":0,"size":32},"protocol":1,"schedule":{"batch_size":2,"clip_norm":null,"epochs":1,"lr":0.1,'
        '"momentum":0.9,"optimizer":"sgd","warmup_epochs":0.0,"warmup_lr":0.0001,"weight_decay":0.0001},"seed":0,'
        '"temporal":null}'
    )


@pytest.mark.parametrize(("experiment", "field", "value"), CHANGES)
def test_key_changes_with_every_field_but_where_clips_lie(experiment: Experiment, field: str, value: Any) -> None:
    changed = experiment.but(**{field: value})
    assert changed != experiment
    assert (changed.key == experiment.key) == changes_nothing(experiment, field)


def changes_nothing(experiment: Experiment, field: str) -> bool:
    return field in PLACES or (field == "schedule__curve_views" and experiment.data != IN_VIEWS.data)


def test_keys_of_all_changes_differ_from_one_another() -> None:
    keys = [
        experiment.but(**{field: value}).key
        for experiment, field, value in CHANGES
        if not changes_nothing(experiment, field)
    ]
    assert len(set(keys)) == len(keys)


def test_what_comes_to_the_same_has_the_same_key() -> None:
    assert ON_VIDEOS.but(data__eval_size=112).key == ON_VIDEOS.key != ON_VIDEOS.but(data__eval_size=128).key
    larger = ON_VIDEOS.but(data__size=128)
    assert larger.but(data__eval_size=112).key != larger.but(data__eval_size=128).key == larger.key
    for single in (PLAIN, ON_VIDEOS):
        assert single.but(schedule__curve_views="one").key == single.key
    for several in (IN_VIEWS, ON_VIDEOS.but(data__num_spatial_crops=3)):
        assert several.but(schedule__curve_views="one").key != several.key
    said = ON_VIDEOS.but(data__eval_size=112, schedule__curve_views="one")
    assert Experiment.model_validate_json(said.model_dump_json()) == said  # and is stored as it was said


def test_key_does_not_depend_on_how_a_value_is_written() -> None:
    assert PLAIN.but(schedule__lr=1).key == PLAIN.but(schedule__lr=1.0).key
    assert ADAPTIVE.but(temporal__calibration="k2+cin").key == ADAPTIVE.but(temporal__calibration="cin+k2").key
    assert ADAPTIVE.but(temporal__placement__stages=(5, 2)).key == ADAPTIVE.but(temporal__placement__stages=(2, 5)).key


def test_but_leaves_the_original_alone_and_changes_only_what_it_names() -> None:
    before = ADAPTIVE.model_dump()
    changed = ADAPTIVE.but(seed=3, temporal__context__kernels=(1,), temporal__context__norm="none", schedule__lr=0.5)
    assert ADAPTIVE.model_dump() == before
    expected = ADAPTIVE.model_dump()
    expected["seed"] = 3
    expected["temporal"]["context"] |= {"kernels": (1,), "norm": "none"}
    expected["schedule"]["lr"] = 0.5
    assert changed.model_dump() == expected


def test_but_replaces_a_part_and_changes_it_at_once() -> None:
    changed = TAda().but(context=Context(kernels=(1,)), context__norm="none")
    assert changed.context == Context(kernels=(1,), norm="none")


def test_but_forgets_the_key_of_the_original() -> None:
    assert PLAIN.key != PLAIN.but(seed=1).key  # the key is cached


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sede": 1}, "unknown field of Experiment 'sede'; one of: seed, "),
        ({"schedule__lr": -1}, "Schedule: lr: Input should be greater than 0, got -1"),
        ({"schedule__learning_rate": 1}, "unknown field of Schedule 'learning_rate'; one of: "),
        ({"seed__lr": 1}, "Experiment.seed has no fields to change"),
        ({"temporal__context__kernels": (2,)}, "a temporal kernel must be a positive odd number of frames, not 2"),
        ({"temporal__context__kernels": (3, 3, 3)}, "kernels: Tuple should have at most 2 items"),
        ({"temporal__context__kernels": ()}, "kernels: Tuple should have at least 1 item"),
        ({"temporal__aggregation__kernel": 4}, "a temporal kernel must be a positive odd number of frames, not 4"),
        ({"temporal__placement__stages": (1, 2)}, "stages are chosen from 2, 3, 4 and 5, each at most once"),
        ({"temporal__placement__stages": (2, 2)}, "stages are chosen from 2, 3, 4 and 5, each at most once"),
        ({"temporal__placement__share": 0}, "Placement: share: Input should be greater than 0, got 0"),
        ({"temporal__calibration": "cni"}, "TAda: calibration: unknown calibration 'cni'; one of: cin"),
    ],
)
def test_but_refuses_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        ADAPTIVE.but(**change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_taps_have_no_channels_to_share_out() -> None:
    assert TAda().but(calibration="cin_k2", placement__share=0.5).placement.share == 0.5
    with pytest.raises(UserError, match="the factor k2 has no channels to share"):
        TAda().but(calibration="cin+k2", placement__share=0.5)


def every_spec() -> list[BaseModel]:
    return [PLAIN, ADAPTIVE, ON_VIDEOS, *(TAda(), Context(), Aggregation(), Placement(), Backbone(name="tiny"))]


@pytest.mark.parametrize("spec", every_spec(), ids=lambda spec: type(spec).__name__)
def test_unknown_key_is_refused_in_one_line(spec: BaseModel) -> None:
    with pytest.raises(ValidationError) as error:
        type(spec).model_validate({**spec.model_dump(), "lerning_rate": 1})
    line = describe(error.value)
    assert line == f"{type(spec).__name__}: unknown key 'lerning_rate'; remove it or correct its spelling"


def test_unknown_key_deep_inside_names_its_place() -> None:
    tree = ADAPTIVE.model_dump()
    tree["temporal"]["context"]["kernel"] = 3
    with pytest.raises(ValidationError) as error:
        Experiment.model_validate(tree)
    assert "unknown key 'temporal.context.kernel'" in describe(error.value)


def test_describe_counts_further_errors() -> None:
    with pytest.raises(ValidationError) as error:
        Schedule(epochs=0, batch_size=0, lr=0)
    assert describe(error.value) == "Schedule: epochs: Input should be greater than or equal to 1, got 0 (and 2 more)"


@pytest.mark.parametrize("spec", every_spec(), ids=lambda spec: type(spec).__name__)
def test_descriptions_are_frozen(spec: BaseModel) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec, next(iter(type(spec).model_fields)), None)


def test_keys_of_what_was_run_before_a_field_came_stay_as_they_were() -> None:
    """Computed by version 0.1, whose placements had no ``convs``."""
    assert PLAIN.key == "7d593698c64632cb"
    assert ADAPTIVE.key == "6c61fbe80dd0ea3b"
    assert ADAPTIVE.but(temporal__placement__convs="both").key != ADAPTIVE.key
    written = PLAIN.schedule.model_dump(mode="json")
    changed = {"cosine": "all_epochs", "evaluate_every": 5, "curve_views": "one", "curve_clips": 3, "norm_batch": 2}
    assert not changed.keys() & set(written)
    assert PLAIN.schedule.but(**changed).model_dump(mode="json") == {**written, **changed}


def test_a_cosine_over_all_epochs_outlasts_its_warmup() -> None:
    recipe = PLAIN.schedule.but(epochs=64, warmup_epochs=4, cosine="all_epochs")
    with pytest.raises(UserError, match=r"warmup_epochs, 4, has to be below epochs, 4"):
        recipe.but(epochs=4)
    assert recipe.but(epochs=5).warmup_epochs == 4
    assert recipe.but(epochs=4, cosine="after_warmup").epochs == 4  # as it always was


def test_batch_norms_are_over_no_more_than_the_batch() -> None:
    recipe = PLAIN.schedule.but(batch_size=8)
    assert recipe.but(norm_batch=8).norm_batch == 8
    with pytest.raises(UserError, match="norm_batch, 9, is above batch_size, 8; lower it"):
        recipe.but(norm_batch=9)


@given(st.integers(1, 100), st.integers(1, 30))
def test_every_nth_epoch_is_evaluated_and_each_of_the_last_ten(epochs: int, evaluate_every: int) -> None:
    schedule = PLAIN.schedule.but(epochs=epochs, evaluate_every=evaluate_every)
    expected = {*range(evaluate_every, epochs + 1, evaluate_every), *range(max(1, epochs - 9), epochs + 1)}
    assert {epoch for epoch in range(1, epochs + 1) if schedule.evaluates_after(epoch)} == expected


def test_another_protocol_is_refused() -> None:
    with pytest.raises(ValidationError):
        Experiment.model_validate({**PLAIN.model_dump(), "protocol": 2})


def test_calibrations_are_all_outer_products_of_four_factors() -> None:
    assert len(CALIBRATIONS) == 15
    assert {frozenset(c.split("+")) for c in CALIBRATIONS} == {
        frozenset(chosen) for size in (1, 2, 3, 4) for chosen in combinations(FACTORS, size)
    }


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_factors_of_a_calibration_in_any_order(calibration: str) -> None:
    for order in permutations(calibration.split("+")):
        assert "+".join(calibration_factors("+".join(order))) == calibration
        assert TAda(calibration="+".join(order)).calibration == calibration


@pytest.mark.parametrize("wrong", ["", "cin+cin", "cin+", "+", "Cin", "cin,cout", "cin + cout", "k3"])
def test_unknown_calibration_lists_all_the_right_ones(wrong: str) -> None:
    with pytest.raises(UserError, match="unknown calibration") as error:
        calibration_factors(wrong)
    assert sorted(str(error.value).partition("one of: ")[2].split(", ")) == sorted(CALIBRATIONS)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("contxt", "context"),
        ("Placement", "placement"),
        ("calibration", "calibration_dimension"),
        ("agregation", "aggregation"),
    ],
)
def test_the_name_that_was_meant_comes_first(wrong: str, right: str) -> None:
    names = ["aggregation", "calibration_dimension", "context", "initialization", "placement"]
    listed = str(unknown("ablation table", wrong, names)).partition("one of: ")[2].split(", ")
    assert listed[0] == right
    assert sorted(listed) == names


def test_lookup_is_strict_and_lists_the_nearest_first() -> None:
    registry = {"tiny": 1, "resnet18": 2, "resnet50": 3}
    assert lookup("backbone", "tiny", registry) == 1
    with pytest.raises(UserError) as error:
        lookup("backbone", "resnt50", registry)
    assert str(error.value) == "unknown backbone 'resnt50'; one of: resnet50, resnet18, tiny"
    with pytest.raises(UserError, match=r"unknown backbone 'x'; one of: \(none\)$"):
        lookup("backbone", "x", {})


OLD_FOLDER = {
    "kind": "folder", "root": "/clips", "fingerprint": "ab12", "num_classes": 2, "num_frames": 8, "size": 112,
    "short_side": 128, "flip": True, "num_temporal_views": 1, "num_spatial_crops": 1, "val_share": 0.25,
}  # fmt: skip
"""As it was written when folders had ``flip`` and none of the fields that came later."""


@pytest.mark.parametrize(("flip", "mirror"), [(True, "yes"), (False, "no")])
def test_a_folder_is_read_and_written_as_it_was_when_it_had_flip(flip: bool, mirror: str) -> None:
    old = {**OLD_FOLDER, "flip": flip}
    folder = Folder.model_validate(old)
    assert folder == Folder(root="/clips", fingerprint="ab12", num_classes=2, mirror=mirror)  # type: ignore[arg-type]
    assert folder.model_dump(mode="json") == folder.model_dump() == old
    assert folder.model_dump_json() == json.dumps(old, separators=(",", ":"))  # in the order that it had
    assert Folder().but(flip=flip).mirror == mirror
    assert ON_VIDEOS.but(data__flip=flip).data == ON_VIDEOS.but(data__mirror=mirror).data
    canonical = json.loads(ON_VIDEOS.but(data=folder).canonical_json())["data"]
    assert canonical == {name: value for name, value in old.items() if name != "root"}


def test_keys_of_folders_that_were_run_before_fields_came_stay_as_they_were() -> None:
    assert ON_VIDEOS.key == "01de27979edb88d4"
    assert ON_VIDEOS.but(data__mirror="no").key == "caeef24654f941e2"


def test_a_swap_is_written_without_a_flip() -> None:
    tree = Folder(mirror="swap").model_dump(mode="json")
    assert tree["mirror"] == "swap"
    assert "flip" not in tree
    assert Folder.model_validate(tree).mirror == "swap"


def test_what_came_later_is_written_where_it_is_not_as_before_and_read_again() -> None:
    later = {
        "sampling": Sampling(kind="intervals", rule="paper", interval=5), "eval_size": 256, "jitter": (1.0, 1.25),
        "short_clips": "repeat", "short_side": 0,
    }  # fmt: skip
    for name, value in later.items():
        experiment = ON_VIDEOS.but(**{f"data__{name}": value})
        assert name in experiment.model_dump(mode="json")["data"]
        again = Experiment.model_validate_json(experiment.model_dump_json())
        assert again == experiment
        assert again.key == experiment.key != ON_VIDEOS.key
        assert again.but(data__root="/elsewhere").key == experiment.key


def test_crops_of_evaluation_are_as_large_as_those_of_training_by_default() -> None:
    assert (Folder(size=64).eval_side, Folder(size=64, eval_size=72).eval_side) == (64, 72)
    assert Folder(size=64).shapes == [(3, 8, 64, 64)]
    assert Folder(size=64, eval_size=72).shapes == [(3, 8, 64, 64), (3, 8, 72, 72)]
    assert PLAIN.data.shapes == [(3, 8, 32, 32)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mirror": "both"}, "Folder: mirror: Input should be 'no', 'yes' or 'swap'"),
        ({"eval_size": 8}, "Folder: eval_size: give 16 pixels or more, or 0, got 8"),
        ({"short_side": 8}, "Folder: short_side: give 16 pixels or more, or 0, got 8"),
        ({"jitter": (0.5, 1.0)}, "Folder: jitter: jitter is (least, largest) short side in crops"),
        ({"jitter": (2.0, 1.0)}, "Folder: jitter: jitter is (least, largest) short side in crops"),
        ({"sampling__fps": float("inf")}, "Sampling: fps: Input should be a finite number"),
        ({"sampling__interval": 0}, "Sampling: interval: Input should be greater than or equal to 1"),
    ],
)
def test_a_folder_refuses_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Folder().but(**change)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    if not any("__" in name for name in change):
        with pytest.raises(ValidationError) as invalid:
            Folder.model_validate(change)
        assert message.removeprefix("Folder: ") in describe(invalid.value)


def test_a_flip_and_a_mirror_are_not_both_taken() -> None:
    with pytest.raises(UserError, match="unknown field of Folder 'flip'"):
        Folder().but(flip=True, mirror="no")
    with pytest.raises(ValidationError, match="flip"):
        Folder.model_validate({"flip": True, "mirror": "no"})
    with pytest.raises(ValidationError, match="'no', 'yes' or 'swap'"):
        Folder.model_validate({"flip": "both"})


def test_segments_are_written_without_an_interval() -> None:
    assert Sampling(rule="paper").model_dump() == {"kind": "segments", "rule": "paper"}
    assert Sampling(kind="intervals").model_dump() == {"kind": "intervals", "rule": "even", "interval": 8, "fps": 30.0}
    for sampling in (Sampling(rule="paper"), Sampling(kind="intervals"), Sampling(interval=4)):
        assert Sampling.model_validate_json(sampling.model_dump_json()) == sampling
