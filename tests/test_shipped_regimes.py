"""Every shipped regime against literal tables: recipes, rates, recipes of rows, weights, and what their files say."""

import ast
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tadaconv import discovery
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.dry_run import dry_run
from tadaconv.errors import UserError
from tadaconv.experiment import build_model
from tadaconv.locations import resolve_data
from tadaconv.models import BACKBONES, build
from tadaconv.models.pretrained import _TORCHVISION_FILES, load_checked
from tadaconv.regime import Published, Regime, load_regime
from tadaconv.regimes.ssv2_8f import REGIME as PAPER
from tadaconv.spec import Backbone, Experiment, Folder, Synthetic, TAda
from tadaconv.table import load_table
from tadaconv.training import Fit, learning_rate

RESNET = "torchvision:ResNet50_Weights.IMAGENET1K_V1"
CONVNEXT = "torchvision:ConvNeXt_Tiny_Weights.IMAGENET1K_V1"
TABLES = tuple(discovery.available("ablation table"))
OF_CLIPS = tuple(name for name in TABLES if not any(row.features for row in load_table(name).table.all_rows))
SEGMENTS = {"kind": "segments", "rule": "paper"}


def intervals(interval: int, fps: float = 30.0) -> dict[str, Any]:
    return {"kind": "intervals", "rule": "paper", "interval": interval, "fps": fps}


# By regime: source; layout, split, mirror; sampling; frames; views, crops; clips per step, clips of a batch norm; rate,
# epochs, warm-up, rate at its start, weight decay. "configs" is configs/projects/tada of the authors' code at 75b7839.
RECIPES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], int, tuple[int, int], tuple[int, int], Any]] = {
    "ssv2_8f": (
        "configs/ssv2/tada2d_8f.yaml", ("ssv2", "", "swap"), SEGMENTS, 8, (2, 3), (128, 16), (0.48, 64, 4, 1e-4, 1e-4),
    ),
    "ssv2_16f": (
        "configs/ssv2/tada2d_16f.yaml", ("ssv2", "", "swap"), SEGMENTS, 16, (2, 3), (64, 8), (0.24, 64, 4, 1e-4, 1e-4),
    ),
    "k400_8x8": (
        "configs/k400/tada2d_8x8.yaml",
        ("kinetics400", "", "yes"), intervals(8), 8, (10, 3), (128, 16), (0.24, 100, 8, 0.01, 1e-4),
    ),
    "k400_16x5": (
        "configs/k400/tada2d_16x5.yaml",
        ("kinetics400", "", "yes"), intervals(5), 16, (10, 3), (64, 8), (0.12, 100, 8, 0.01, 1e-4),
    ),
    "epic100_8f": (
        "ours", ("epic100", "", "yes"), intervals(8, 60.0), 8, (10, 3), (64, 0), (0.06, 50, 5, 0.01, 1e-4),
    ),
    "mini_k400": (
        "ours",
        ("kinetics400", "mini_kinetics.txt", "yes"), intervals(8), 8, (10, 3), (64, 0), (0.06, 30, 3, 0.01, 1e-4),
    ),
    "ucf101_short": (
        "ours", ("ucf101", "1", "yes"), intervals(8), 8, (10, 1), (64, 0), (0.02, 80, 5, 1e-4, 5e-4),
    ),
    "hmdb51_short": (
        "ours", ("hmdb51", "1", "yes"), intervals(8), 8, (10, 1), (64, 0), (0.02, 100, 5, 1e-4, 5e-4),
    ),
    "diving48_short": (
        "ours", ("diving48", "", "yes"), SEGMENTS, 8, (2, 3), (64, 0), (0.02, 50, 5, 1e-4, 5e-4),
    ),
}  # fmt: skip
OF_THE_PAPER = [name for name, (source, *_) in RECIPES.items() if source != "ours"]
OURS = [name for name in RECIPES if name not in OF_THE_PAPER]


@pytest.fixture(autouse=True)
def _only_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documented(name: str) -> str:
    """What the file of a regime says of itself."""
    return ast.get_docstring(ast.parse(discovery.find("regime", name).read_text(encoding="utf-8"))) or ""


@pytest.mark.parametrize("name", RECIPES)
def test_a_regime_is_what_its_source_says(name: str) -> None:
    source, (layout, split, mirror), sampling, num_frames, views, batches, rates = RECIPES[name]
    regime = load_regime(name)
    assert regime.backbone == Backbone(name="resnet50", dropout=0.5, weights=RESNET)
    assert regime.data.model_dump(mode="json") == Folder(
        layout=layout, split=split, mirror=mirror, sampling=sampling, num_frames=num_frames, short_clips="repeat",
        size=224, eval_size=256, short_side=0, jitter=(224 / 224, 340 / 224),
        num_temporal_views=views[0], num_spatial_crops=views[1],
    ).model_dump(mode="json")  # fmt: skip
    schedule = regime.schedule
    assert (schedule.batch_size, schedule.norm_batch) == batches
    found = (schedule.lr, schedule.epochs, schedule.warmup_epochs, schedule.warmup_lr, schedule.weight_decay)
    assert found == rates
    assert (schedule.optimizer, schedule.momentum, schedule.clip_norm) == ("sgd", 0.9, None)
    assert (schedule.cosine, schedule.evaluate_every, schedule.curve_views) == ("all_epochs", 5, "one")
    words = (regime.summary, documented(name))
    said = r"\bours?\b" if source == "ours" else "the paper's"
    assert all(re.search(said, text.lower()) for text in words)
    if source != "ours":
        assert Path(source).name in words[1]


def test_every_regime_that_ships_is_in_the_table() -> None:
    small = {"quick", "quick_1", "quick_localize", "proxy", "proxy_1", "folder"}
    assert set(discovery.available("regime")) == {*RECIPES, *small, "hacs", "epic_localization"}


@pytest.mark.parametrize(("name", "key"), [("quick", "101b7649c96d3fcb"), ("proxy", "336da136b189e354")])
def test_the_recipes_of_before_have_the_keys_of_before(name: str, key: str) -> None:
    """Computed by the versions in which they had the name without a number."""
    before, now = load_regime(f"{name}_1"), load_regime(name)
    assert before.experiment(TAda(), 3).key == key
    assert now.experiment(TAda(), 3).key != key
    assert (before.formerly, now.formerly) == (name, "")
    assert (before.backbone, before.stand_ins) == (now.backbone, now.stand_ins)


@pytest.mark.parametrize("name", RECIPES)
def test_the_rate_goes_up_in_a_line_to_a_cosine_over_all_epochs(name: str) -> None:
    base, epochs, warmup, first, _ = RECIPES[name][-1]

    def cosine(epoch: float) -> float:
        return base * math.cos(math.pi * epoch / (2 * epochs)) ** 2  # half of 1 + cos(pi e / E)

    schedule = load_regime(name).schedule
    for step in range(0, 20 * epochs, 7):
        epoch = step / 20
        wanted = first + (cosine(warmup) - first) * epoch / warmup if epoch < warmup else cosine(epoch)
        assert learning_rate(schedule, step, 20) == pytest.approx(wanted, rel=1e-12), epoch


Cell = tuple[str | None, str, int, float, int, int, str]
"""Of a cell: origin of its recipe, None for the own; optimizer, batch_size, lr, norm_batch, interval, weights."""

ADAMW = ("ours", "adamw", 64, 6.25e-5, 0)
HOSTS = (("slow_only_8x8", 8), ("r2plus1d", 8), ("r3d", 8), ("slowfast_4x16", 32), ("slowfast_8x8", 32))
NO_INTERVAL = 8  # what segments have no use for


def cells_of(
    own: tuple[int, float, int], *, at_8: str | None, at_16: Any, hosts: Any, windows: tuple[int, int, int, int]
) -> dict[tuple[str, int], Cell]:
    """The recipes of every backbone and number of frames that a shipped table asks for.

    ``windows`` are the intervals with 8, 16 and 32 frames and those of SlowFast.
    """
    cells: dict[tuple[str, int], Cell] = {
        ("resnet50", 8): (at_8, "sgd", *own, windows[0], RESNET),
        ("resnet50", 16): (*at_16, windows[1], RESNET),
        ("convnext_tiny_clip", 16): (*ADAMW, windows[1], CONVNEXT),
        ("convnext_tiny_clip", 32): (*ADAMW, windows[2], CONVNEXT),
    }
    for name, frames in HOSTS:
        origin = "ours" if hosts[0] is None and frames == 32 and windows[3] != windows[0] else hosts[0]
        cells[name, frames] = (origin, *hosts[1:], windows[0] if frames == 8 else windows[3], RESNET)
    return cells


SSV2_HOSTS, K400_HOSTS = ("ours", "sgd", 64, 0.12, 0), ("ours", "sgd", 64, 0.06, 0)
ONE_WINDOW, OF_64_OR_80 = (NO_INTERVAL,) * 4, (8, 5, 2, 2)


def plain(lr: float) -> dict[tuple[str, int], Cell]:
    own = ("sgd", 64, lr, 0)
    return cells_of((64, lr, 0), at_8=None, at_16=("ours", *own), hosts=(None, *own), windows=OF_64_OR_80)


UNDER: dict[str, dict[tuple[str, int], Cell]] = {
    "ssv2_8f": cells_of(
        (128, 0.48, 16), at_8=None, at_16=("paper", "sgd", 64, 0.24, 8), hosts=SSV2_HOSTS, windows=ONE_WINDOW
    ),
    "ssv2_16f": cells_of(
        (128, 0.48, 16), at_8="paper", at_16=(None, "sgd", 64, 0.24, 8), hosts=SSV2_HOSTS, windows=ONE_WINDOW
    ),
    "k400_8x8": cells_of(
        (128, 0.24, 16), at_8=None, at_16=("paper", "sgd", 64, 0.12, 8), hosts=K400_HOSTS, windows=OF_64_OR_80
    ),
    "k400_16x5": cells_of(
        (128, 0.24, 16), at_8="paper", at_16=(None, "sgd", 64, 0.12, 8), hosts=K400_HOSTS, windows=OF_64_OR_80
    ),
    "epic100_8f": plain(0.06),
    "mini_k400": plain(0.06),
    "ucf101_short": plain(0.02),
    "hmdb51_short": plain(0.02),
    "diving48_short": cells_of(
        (64, 0.02, 0), at_8=None, at_16=(None, "sgd", 64, 0.02, 0), hosts=(None, "sgd", 64, 0.02, 0),
        windows=ONE_WINDOW,
    ),
}  # fmt: skip


def experiments(regime: Regime) -> list[Experiment]:
    return [cell.experiment for name in OF_CLIPS for cell in load_table(name).table.cells(regime, [0])]


@pytest.mark.parametrize("name", RECIPES)
def test_every_row_of_every_table_is_trained_by_the_recipe_of_its_backbone_and_frames(name: str) -> None:
    regime = load_regime(name)
    found: dict[tuple[str, int], Cell] = {}
    for experiment in experiments(regime):
        data, schedule, host = experiment.data, experiment.schedule, experiment.backbone
        assert isinstance(data, Folder)
        recipe = regime.recipe(host.name, data.num_frames)
        cell = (
            None if recipe is None else recipe.origin, schedule.optimizer, schedule.batch_size, schedule.lr,
            schedule.norm_batch, data.sampling.interval, host.weights,
        )  # fmt: skip
        assert found.setdefault((host.name, data.num_frames), cell) == cell
        assert (data.size, data.eval_size, host.dropout, schedule.epochs) == (224, 256, 0.5, regime.schedule.epochs)
    assert found == UNDER[name]


@pytest.mark.parametrize("name", ["quick", "proxy", "folder"])
def test_every_row_of_every_table_has_an_experiment_in_the_small_regimes(name: str) -> None:
    regime = load_regime(name)
    assert regime.recipes == ()
    assert {experiment.schedule for experiment in experiments(regime)} == {regime.schedule}


def test_tables_name_the_regimes_that_they_were_published_of() -> None:
    named = {name: load_table(name).table.regime for name in TABLES}
    own = {"ssv2": "ssv2_8f", "k400": "k400_8x8", "plug_in": "k400_8x8", "localization": "quick_localize"}
    own |= {"hacs": "hacs", "epic_localization": "epic_localization"}
    assert named == {name: own.get(name) for name in TABLES}


@pytest.mark.parametrize("name", RECIPES)
def test_numbers_are_compared_where_the_paper_trained_so_and_nowhere_else(name: str) -> None:
    regime = load_regime(name)
    compared = {key: regime.published_as(*key) for key in UNDER[name]}
    wanted: dict[tuple[str, int], Published | None] = dict.fromkeys(UNDER[name])
    if name in OF_THE_PAPER:
        data = "Something-Something-V2" if name.startswith("ssv2") else "Kinetics-400"
        clips = 2 if name.startswith("ssv2") else 10
        for frames in (8, 16):
            views = f"{clips} clips x 3 crops of 256 px"
            wanted["resnet50", frames] = Published(data=data, num_frames=frames, views=views)
    assert compared == wanted
    assert any(compared.values()) == (name in OF_THE_PAPER)
    papers = [row.paper for table in ("ssv2", "k400") for row in load_table(table).table.all_rows if row.paper]
    for published in filter(None, compared.values()):  # in the very words of the tables
        assert (published.data, published.num_frames, published.views) in {
            (paper.data, paper.num_frames, paper.views) for paper in papers
        }


ARCHITECTURES = {"ResNet50_Weights": "resnet50", "ConvNeXt_Tiny_Weights": "convnext_tiny"} | {
    "ConvNeXt_Small_Weights": "convnext_small", "ConvNeXt_Base_Weights": "convnext_base",
}  # fmt: skip


def test_every_backbone_takes_the_weights_that_its_recipe_names() -> None:
    taken = {
        (host.backbone.name, host.backbone.weights) for name in RECIPES for host in experiments(load_regime(name))
    } | {
        (backbone, recipe.changes["backbone__weights"])
        for name in RECIPES
        for recipe in load_regime(name).recipes
        if "backbone__weights" in recipe.changes
        for backbone in recipe.backbones
    }
    assert {name for name, _ in taken} >= {"resnet50", "r3d", "convnext_base", "convnext_base_clip"}
    with torch.device("meta"):
        for name, weights in sorted(taken):
            image = ARCHITECTURES[weights.removeprefix("torchvision:").partition(".")[0]]
            shapes = {
                key: value.squeeze(2) if value.dim() == 5 else value
                for key, value in build(Backbone(name=image), None, 1000).state_dict().items()
            }
            load_checked(build(Backbone(name=name), None, 174), shapes)


def test_weights_that_are_named_are_those_of_torchvision_and_their_files_are_known() -> None:
    named = {host.weights.removeprefix("torchvision:") for name in RECIPES for host in load_regime(name).backbones}
    assert named <= set(_TORCHVISION_FILES)
    models = pytest.importorskip("torchvision.models", reason="the extra torchvision is not installed")
    for name, file in _TORCHVISION_FILES.items():
        assert models.get_weight(name).url == f"https://download.pytorch.org/models/{file}"


class Counted(SyntheticClips):
    """Clips of which it is noted how many are asked for at a time."""

    asked: list[int]

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        self.asked.append(len(indices))
        return super().train_batch(indices, epoch, seed)


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_a_regime_of_the_paper_is_trained_as_it_stands_in_micro_batches(name: str) -> None:
    """Its own schedule, and those of its recipes, for one step each of a small network on small clips."""
    regime = load_regime(name)
    dry_run(regime.experiment(TAda(), 0).but(backbone__weights=""))
    by_schedule = {cell.schedule: cell for cell in experiments(regime)}
    assert len(by_schedule) >= 4  # its own, that of other frames, of ConvNeXts, of the hosts of plug_in
    for schedule, experiment in by_schedule.items():
        batch, norm_batch = schedule.batch_size, schedule.norm_batch
        small = experiment.but(
            backbone=Backbone(name="tiny", dropout=0.5),
            temporal=None,
            data=Synthetic(num_frames=4, size=16, num_train=2 * batch - 1, num_val=10),
        )
        source = Counted(small.data, torch.device("cpu"))
        source.asked = []
        fit = Fit(build_model(small, 10), source, schedule, 0, torch.device("cpu"))
        assert fit.steps_per_epoch == 2
        fit.state.step = 1  # the second batch of the epoch, which has a clip less
        fit._step()
        assert math.isfinite(fit._read_losses())
        last = [norm_batch] * (batch // norm_batch - 1) + [norm_batch - 1] if norm_batch else [batch - 1]
        assert source.asked == last


DERIVED = """
from tadaconv.regimes.ssv2_8f import REGIME as PAPER

REGIME = PAPER.but(
    summary="Something-Something-V2 in minutes",
    backbone__name="tiny", backbone__weights="",
    data__size=32, data__eval_size=40,
    schedule__epochs={epochs}, schedule__warmup_epochs=1, schedule__batch_size=8, schedule__norm_batch=0,
    recipes=(),
)
"""


def test_a_regime_derived_in_a_few_lines_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "my_ssv2.py").write_text(DERIVED.format(epochs=3))
    regime = load_regime("./my_ssv2.py")
    assert regime.but(data=PAPER.data).data == PAPER.data
    assert regime.data == PAPER.data.but(size=32, eval_size=40)
    assert regime.schedule == PAPER.schedule.but(epochs=3, warmup_epochs=1, batch_size=8, norm_batch=0)
    for cell in load_table("context").table.cells(regime, [0])[:3]:
        dry_run(cell.experiment)
    (tmp_path / "my_ssv2.py").write_text(DERIVED.format(epochs=1))
    line = r"^my_ssv2\.py: Schedule: warmup_epochs, 1, has to be below epochs, 1"
    with pytest.raises(UserError, match=line):
        load_regime("./my_ssv2.py")


ARITHMETIC = re.compile(
    r"By arithmetic, not timed\. A TAda2D takes (\d+) GMACs for 8 frames of 224 px, and (\d+) to train on them\. "
    r"([\d,]+) clips x (\d+) epochs x (\d+) GMACs are (\d+) PMACs: ([\d.]+) hours (?:a cell )?at 30 TMACs a second"
)
CELLS = re.compile(r"(Ten rows|Thirty cells) take (\d+) hours, and their ([\d,]+) x (\d+) views ([\d.]+) hours more")
CLIPS = {"epic100_8f": 67_000, "mini_k400": 80_000, "ucf101_short": 9_500, "hmdb51_short": 3_570} | {
    "diving48_short": 15_000
}


@pytest.mark.parametrize("name", OURS)
def test_the_hours_that_a_file_gives_follow_from_its_schedule(name: str) -> None:
    text = " ".join(documented(name).split())
    stated = ARITHMETIC.search(text)
    assert stated is not None
    forward, training, clips, epochs, again, total, hours = (float(part.replace(",", "")) for part in stated.groups())
    regime = load_regime(name)
    assert forward == round(43.13 * (224 / 256) ** 2)  # 43.13 is what tada cost counts for TAda2D at 256 px
    assert (training, again) == (3 * forward,) * 2
    assert (clips, epochs) == (CLIPS[name], regime.schedule.epochs)
    exact = clips * epochs * training / 1e6
    assert total == pytest.approx(exact, abs=1)
    assert hours == pytest.approx(exact * 1e3 / 30 / 3600, abs=0.06)
    if of_a_table := CELLS.search(text):
        num_cells = {"Ten rows": 10, "Thirty cells": 30}[of_a_table[1]]
        assert int(of_a_table[2]) == round(num_cells * exact * 1e3 / 30 / 3600) <= 24
        data = regime.data
        assert isinstance(data, Folder)
        assert int(of_a_table[4]) == data.num_temporal_views * data.num_spatial_crops
        views = num_cells * int(of_a_table[3].replace(",", "")) * int(of_a_table[4])
        assert float(of_a_table[5]) == pytest.approx(views * 43.13 / 30e3 / 3600, abs=0.06)
    else:
        assert name == "epic100_8f"


def test_backbones_of_recipes_are_there() -> None:
    asked = {host for name in RECIPES for recipe in load_regime(name).recipes for host in recipe.backbones}
    assert asked <= set(BACKBONES)


@pytest.mark.parametrize(("name", "holds"), [("ssv2_8f", "of layout ssv2"), ("folder", "with train/<class>/*")])
def test_a_regime_without_clips_says_which_folder_it_needs(tmp_path: Path, name: str, holds: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"add --data DIR, a folder {holds}")):
        resolve_data(load_regime(name), None, tmp_path)
