"""Every study that ships: is found, draws what can be built, starts from its own space, and repeats itself by seed."""

from itertools import islice
from pathlib import Path

import optuna
import pytest

from tadaconv import discovery
from tadaconv.dry_run import dry_run
from tadaconv.errors import UserError
from tadaconv.execution.store import Store
from tadaconv.regime import load_regime
from tadaconv.spec import CALIBRATIONS, Rival, TAda, Temporal
from tadaconv.study import Proposer, load_study, walk
from tadaconv.table import load_table

STUDIES = [file.stem for file in discovery.shipped_folder("study").glob("*.py")]
REGIME = load_regime("quick")


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # only what ships


def sampled(name: str, num: int, seed: int = 0) -> list[Temporal]:
    """What a study's space gives to a sampler that knows nothing."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    return [load_study(name).study.suggest(memory.ask()) for _ in range(num)]


def test_studies_are_discovered() -> None:
    assert set(STUDIES) >= {"stage_placement", "context_design", "calibration_factors", "accuracy_per_mac"}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_a_question_and_its_command(name: str) -> None:
    loaded = load_study(name)
    assert loaded.name == name
    assert loaded.question.splitlines()[0].endswith("?")
    text = discovery.find("study", name).read_text()
    assert f"Run: tada study {name} --trials " in text
    assert loaded.study.base in loaded.study.start
    assert any(each.startswith("paper: ") for each in loaded.study.start)


@pytest.mark.parametrize("name", STUDIES)
def test_thirty_sampled_configurations_are_experiments_and_some_are_built(name: str) -> None:
    specs = sampled(name, 30)
    assert all(spec is None or isinstance(spec, TAda | Rival) for spec in specs)
    experiments = [REGIME.experiment(spec, 0) for spec in specs]
    assert len({experiment.key for experiment in experiments}) > 8
    num_built = 0
    for experiment in experiments[:6]:
        try:
            dry_run(experiment)
            num_built += 1
        except UserError as error:
            assert "selects no convolution of this backbone" in str(error)  # noqa: PT017 - blocks a small one lacks
    assert num_built >= 2
    assert sampled(name, 30) == specs
    assert sampled(name, 30, seed=1) != specs


@pytest.mark.parametrize("name", STUDIES)
def test_the_start_is_in_the_space_and_can_be_built(name: str) -> None:
    study = load_study(name).study
    for given, found in zip(study.start.values(), study.started.values(), strict=True):
        assert found.params == dict(given)
        dry_run(REGIME.experiment(found.temporal, 0))
    assert study.base_temporal == study.started[study.base].temporal


@pytest.mark.parametrize("name", ["context_design", "calibration_factors", "stage_placement"])
def test_starts_of_the_paper_are_rows_of_its_tables(name: str) -> None:
    """A start called the paper's is an experiment of one of the paper's tables, and so shares its cells."""
    tables = {"context_design": "context", "calibration_factors": "calibration_dimension"}
    rows = [row.temporal for row in load_table(tables.get(name, "placement")).table.all_rows]
    for start, found in load_study(name).study.started.items():
        assert found.temporal in rows, start


def test_the_spaces_have_the_documented_size() -> None:
    def size(name: str) -> int:
        found = {"" if each.temporal is None else each.temporal.model_dump_json() for each in whole(name)}
        return len(found)

    def whole(name: str) -> list[object]:
        return list(walk(load_study(name).study.suggest))  # type: ignore[arg-type]

    for name in ("stage_placement", "context_design"):
        words = load_study(name).question.replace("\n", " ").replace(";", " ").replace(".", " ").split()
        assert str(size(name)) in words, name
    calibrations = {
        each.temporal.calibration
        for each in walk(load_study("calibration_factors").study.suggest)
        if isinstance(each.temporal, TAda)
    }
    assert calibrations == set(CALIBRATIONS)
    assert len(whole("calibration_factors")) == 16
    assert len(list(islice(walk(load_study("accuracy_per_mac").study.suggest), 1000))) == 1000


@pytest.mark.parametrize("name", STUDIES)
def test_the_start_is_proposed_first(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tadaconv.study.cost.MacsCounter.macs", lambda *_: 1
    )  # what a network costs is tested elsewhere
    monkeypatch.setattr("tadaconv.dry_run.dry_run", lambda _: None)
    loaded = load_study(name)
    num_start = len(loaded.study.start)
    queues = []
    for seed in range(2):
        store = Store.open(str(tmp_path / f"{seed}.log"))
        Proposer(loaded, REGIME, f"{name}-quick", store).top_up(99, num_start + 2)
        rows = store.backend.attempts()
        labels = list(dict.fromkeys(row.attrs["label"] for row in rows))
        assert labels == [*loaded.study.start, f"trial {num_start}", f"trial {num_start + 1}"]
        queues.append([(row.key, dict(row.params)) for row in rows])
    assert queues[0] == queues[1]
