"""Paths are kept next to a description and not in it: it is the same wherever clips and weights are."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.execution.cells import Cell
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.locations import apart, as_planned, at_home, places_of, together, why_missing
from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Experiment, Folder, Schedule, Synthetic

paths = st.sampled_from(["", "/here/ä clips", "relative", "file:///caf%E9"])
datas = st.one_of(
    st.just(Synthetic(num_train=8, num_val=8)),
    st.builds(Folder, root=paths, index=paths, layout=st.sampled_from(["classes", "ssv2"]), fingerprint=st.just("ab")),
)
backbones = st.one_of(
    st.just(Backbone(name="tiny", weights="timm:resnet50.a1_in1k")),
    st.builds(Backbone, name=st.just("tiny"), weights=paths, weights_fingerprint=st.sampled_from(["cd", "ef"])),
)
experiments = st.builds(
    Experiment, backbone=backbones, data=datas, schedule=st.just(Schedule(epochs=1, batch_size=2, lr=0.1))
)


@given(experiments)
def test_a_description_comes_back_and_its_key_does_not_depend_on_paths(experiment: Experiment) -> None:
    tree = experiment.model_dump(mode="json")
    described, places = apart(tree)
    assert together(described, places) == tree
    assert together(tree, {}) == tree  # as older versions have stored it
    assert apart(described) == (described, {})
    assert not [path for path in places.values() if path in json.dumps(described, ensure_ascii=False)]
    assert Experiment.model_validate(described).key == experiment.key


WEIGHTS = Backbone(name="tiny", weights="/models/start.pth", weights_fingerprint="cd" * 8)
CLIPS = Folder(root="/clips", index="/runs/cache/one", layout="ssv2", fingerprint="ab" * 8, num_classes=3)
EXPERIMENT = Experiment(backbone=WEIGHTS, data=CLIPS, schedule=Schedule(epochs=1, batch_size=2, lr=0.1))


def test_a_storage_keeps_paths_apart_and_gives_them_back(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    cell = Cell("row", EXPERIMENT)
    plan(store, "t-quick", [cell], [0])
    (attempt,) = store.attempts()[cell.key]
    for kept in (attempt.attrs["spec"], store.study_attrs("t-quick")["plan"]["row"]["experiment"]):
        assert [path for path in ("/models", "/clips", "/runs") if path in json.dumps(kept)] == []
    assert attempt.cell == cell
    assert store.planned("t-quick") == [cell]


def test_what_an_older_version_has_stored_with_its_paths_is_read(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    cell, tree = Cell("row", EXPERIMENT), EXPERIMENT.model_dump(mode="json")
    store.add("t-quick", cell, attrs={"spec": tree, "places": {}})
    store.set_study_attr("t-quick", "plan", {"row": {"experiment": tree, "seeds": {"0": cell.key}}})
    (attempt,) = store.attempts()[cell.key]
    assert attempt.cell == cell
    assert store.planned("t-quick") == [cell]


def test_a_regime_finds_what_it_was_last_planned_on() -> None:
    regime = Regime(
        summary="",
        backbone=WEIGHTS.but(weights_fingerprint=""),
        data=Folder(layout="ssv2"),
        schedule=EXPERIMENT.schedule,
    )
    earlier = EXPERIMENT.but(data__fingerprint="cd" * 8, backbone__weights_fingerprint="ab" * 8)
    other = EXPERIMENT.but(data__layout="jester", backbone__weights="/models/other.pth")
    found = as_planned(regime, [each.model_dump(mode="json") for each in (earlier, EXPERIMENT, other)])
    assert (found.backbone, found.data) == (WEIGHTS, CLIPS)
    assert places_of(found) == {"ab" * 8: "/runs/cache/one", "cd" * 8: "/models/start.pth"}


@pytest.mark.parametrize("is_known", [True, False])
def test_clips_and_weights_are_looked_for_on_this_machine(is_known: bool, tmp_path: Path) -> None:
    index, weights = tmp_path / "index", tmp_path / "start.pth"
    places = {"ab" * 8: str(index), "cd" * 8: str(weights)} if is_known else {}
    cache = tmp_path / "cache"
    assert "the index of its clips is not here" in str(why_missing(EXPERIMENT, places, cache))
    (index if is_known else cache / "one").mkdir(parents=True)
    found = at_home(EXPERIMENT, places, cache)
    assert isinstance(found.data, Folder)
    assert found.data.index == str(index if is_known else cache / "one")
    assert found.backbone.weights == (str(weights) if is_known else "/models/start.pth")
    missing = why_missing(EXPERIMENT, places, cache)
    assert missing == (None if is_known else "its clips, /clips, are not on this machine")
    assert found.key == EXPERIMENT.key
