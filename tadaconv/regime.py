"""A regime: the backbone scale, the clips and the recipe a table is run on. Rows vary only what they ablate."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tadaconv import discovery
from tadaconv.command import command, given
from tadaconv.errors import UserError
from tadaconv.spec import (
    BMN,
    Backbone,
    Data,
    Experiment,
    Features,
    Folder,
    Localization,
    Localizer,
    Point,
    Schedule,
    Spec,
    Temporal,
)
from tadaconv.text import plural


class Published(Spec):
    """What a paper measured on, in its words: those of the rows' published numbers, or no number is compared."""

    data: str = Field(description="The data set, such as Something-Something-V2.")
    num_frames: int = Field(ge=1, description="Frames per clip.")
    views: str = Field(description="Clips per video and crops per clip with their size: 2 clips x 3 crops of 256 px.")


class Conditions(Spec):
    """What of an experiment a recipe may change."""

    backbone: Backbone
    data: Data
    schedule: Schedule


_WHICH_CLIPS = (
    "kind", "layout", "split", "root", "index", "fingerprint", "num_classes", "num_listed", "num_missing", "val_share",
    "num_train", "num_val", "seed",
)  # fmt: skip
"""Fields of the data that select the clips: all rows of a table are trained and evaluated on the same."""


class Recipe(Spec):
    """What differs from the regime's own in the cells of some backbones, of a number of frames, or of both."""

    backbones: tuple[str, ...] = Field(
        (),
        description="Names of backbones, as rows ask for them; the regime's own is that of a row that asks for none. "
        "Empty: any backbone.",
    )
    num_frames: int | None = Field(None, ge=1, description="Frames per clip; None: any number.")
    origin: Literal["paper", "ours"] = Field(description="Whether the paper trained so, or the recipe is ours.")
    changes: dict[str, Any] = Field(
        description="By field, as ``but`` takes them: schedule__lr, schedule, data__size, backbone__weights."
    )

    @field_validator("changes")
    @classmethod
    def _same_clips(cls, changes: dict[str, Any]) -> dict[str, Any]:
        for name in changes:
            part, _, field = name.partition("__")
            if part == "data" and (not field or field in _WHICH_CLIPS):
                raise ValueError(f"the clips are the same for every row, so a recipe does not change {name}")
            if name in ("data__num_frames", "backbone__name"):
                raise ValueError(f"backbone and number of frames are the row's, so a recipe does not change {name}")
        return changes

    def __str__(self) -> str:
        """Which cells it is for, in a few words: ``convnext_tiny_clip, 16 frames``."""
        frames = [] if self.num_frames is None else [plural(self.num_frames, "frame")]
        return ", ".join([*self.backbones, *frames]) or "every backbone"

    def takes(self, backbone: str, num_frames: int) -> bool:
        """Whether a cell on this backbone and with so many frames per clip is trained by this recipe."""
        return (not self.backbones or backbone in self.backbones) and self.num_frames in (None, num_frames)


class Regime(Spec):
    """One file in ``regimes/`` holds one regime under the name ``REGIME``."""

    summary: str
    backbone: Backbone
    data: Data
    schedule: Schedule
    stand_ins: dict[str, str] = Field(
        {}, description="By the name of a backbone in a row, the one that is used in its place at this scale."
    )

    localization: Localization | None = Field(
        None, description="What finds segments, where the data are untrimmed; None: the class of a clip is recognized."
    )
    localizers: tuple[Localizer, ...] = Field(
        (), description="Settings of the localizers that rows ask for by kind, other than that of localization."
    )
    feature_sets: tuple[Features, ...] = Field(
        (), description="Filled in when features are found on a disk: one for each folder that rows ask for."
    )
    recipes: tuple[Recipe, ...] = Field(
        (), description="What differs by backbone or frames; a cell is trained by the first recipe that takes it."
    )
    formerly: str = Field(
        "", description="The name that tables and studies were run under when this was the regime of that name."
    )
    published: tuple[Published, ...] = Field(
        (), description="What the paper measured on where it trained so; empty where it did not, and after any change."
    )

    @model_validator(mode="after")
    def _recipes_can_be_applied(self) -> Self:
        for recipe in self.recipes:
            try:
                self._under(recipe)
            except UserError as error:
                raise ValueError(f"a recipe of the regime: {error}") from error
        return self

    def but(self, **changes: Any) -> Self:
        """A copy with fields replaced, as of every description; it is no longer what was ``published`` on.

        To fill in where clips and weights are is no change: :meth:`with_clips`, :meth:`with_weights`.
        """
        is_other = any(
            name.partition("__")[0] in ("backbone", "data", "schedule", "recipes", "localization", "localizers")
            for name in changes
        )
        return super().but(**{**({"published": ()} if is_other else {}), **changes})

    def with_clips(self, data: Data) -> Self:
        """The regime on the same clips, completed by where they are and their fingerprint, which is no change of it."""
        return self.model_copy(update={"data": data})

    def with_weights(self, complete: Callable[[Backbone], Backbone]) -> Self:
        """The regime with the weights of every backbone, its own and those of recipes, as ``complete`` knows them.

        ``complete`` gives a backbone the fingerprint of its weights, which is no change of the regime.
        """
        recipes = []
        for recipe in self.recipes:
            changes = recipe.changes
            if {"backbone", "backbone__weights"} & set(changes):  # else it has the weights of the regime's own
                own = complete(self._under(recipe).backbone.but(weights_fingerprint=""))
                changes = {**changes, "backbone__weights_fingerprint": own.weights_fingerprint}
            recipes.append(recipe.model_copy(update={"changes": changes}))
        return self.model_copy(update={"backbone": complete(self.backbone), "recipes": tuple(recipes)})

    @property
    def backbones(self) -> list[Backbone]:
        """The regime's own backbone, then that of each recipe."""
        return [self.backbone, *(self._under(recipe).backbone for recipe in self.recipes)]

    def recipe(self, backbone: str | None = None, num_frames: int | None = None) -> Recipe | None:
        """The recipe of a cell on the backbone and frames that its row asks for; None for the regime's own."""
        host, frames = backbone or self.backbone.name, num_frames or self.data.num_frames
        return next((recipe for recipe in self.recipes if recipe.takes(host, frames)), None)

    def published_as(self, backbone: str | None = None, num_frames: int | None = None) -> Published | None:
        """What the paper measured such a cell on; None where it trained otherwise, so that only orders compare."""
        recipe = self.recipe(backbone, num_frames)
        if backbone in self.stand_ins or (recipe is not None and recipe.origin == "ours"):
            return None
        frames = num_frames or self.data.num_frames
        return next((published for published in self.published if published.num_frames == frames), None)

    def _under(self, recipe: Recipe | None) -> Conditions:
        own = Conditions(backbone=self.backbone, data=self.data, schedule=self.schedule)
        return own if recipe is None else own.but(**recipe.changes)

    def with_features(self, resolved: Iterable[Features]) -> Self:
        """The regime on the features that were found, a folder each, which is no change of it."""
        sets = tuple(resolved)
        return self.model_copy(update={"data": sets[0], "feature_sets": sets}) if sets else self

    def _features(self, data: Features, folder: str) -> Features:
        """The features of a folder; of one that was not found only its name, with which no cell can be run."""
        unknown_yet = {name: Features.model_fields[name].default for name in ("fingerprint", "num_channels", "index")}
        return next((one for one in self.feature_sets if one.folder == folder), data.but(folder=folder, **unknown_yet))

    def _localization(self, kind: str | None) -> Localization | None:
        if self.localization is None or kind in (None, self.localization.localizer.kind):
            return self.localization
        chosen = next((one for one in self.localizers if one.kind == kind), None)
        return self.localization.but(localizer=chosen or {"point": Point, "bmn": BMN}[str(kind)]())

    def experiment(
        self,
        temporal: Temporal,
        seed: int,
        backbone: str | None = None,
        num_frames: int | None = None,
        features: str | None = None,
        localizer: str | None = None,
    ) -> Experiment:
        """The experiment of one cell: this regime with ``temporal`` plugged in, by its recipe, from ``seed``.

        Args:
            temporal: what the row plugs in.
            seed: of the weights, the data order and the augmentation.
            backbone: the row's backbone, for which a stand-in may be used; None for the regime's own.
            num_frames: frames of a clip that the row asks for; None for the regime's own.
            features: the folder of features that the row asks for; None for the regime's own.
            localizer: the kind of localizer that the row asks for; None for the regime's own.

        Raises:
            UserError: the regime cannot take what the row asks for.
        """
        conditions = self._under(self.recipe(backbone, num_frames))
        host, data = conditions.backbone, conditions.data
        if backbone is not None:
            host = host.but(name=self.stand_ins.get(backbone, backbone))
        if num_frames is not None:
            data = data.but(num_frames=num_frames)
        if features is not None:
            if not isinstance(data, Features):
                raise UserError("the row asks for features on a disk, which are of regimes such as hacs")
            data = self._features(data, features)
        if localizer is not None and self.localization is None:
            raise UserError("the row asks for a localizer, which is of regimes such as quick_localize")
        return Experiment(
            backbone=host,
            temporal=temporal,
            data=data,
            schedule=conditions.schedule,
            localization=self._localization(localizer),
            seed=seed,
        )


def load_regime(name: str) -> Regime:
    """The regime behind a name or a path; raises :class:`UserError`, listing the right names, nearest first."""
    regime = getattr(discovery.load("regime", name), "REGIME", None)
    if not isinstance(regime, Regime):
        raise UserError(f"regime {name!r} defines no REGIME = Regime(...)")
    return regime


def run_command(name: str, what: str, regime_name: str, ran: Iterable[Experiment] = (), **options: object) -> str:
    """The command that runs a table or a study in a regime, with the clips it needs.

    Args:
        name: ``ablate`` or ``study``.
        what: what finds the table or study, a name or a path.
        regime_name: what finds the regime.
        ran: experiments whose clips are taken, where the present call names none.
        options: as :func:`tadaconv.command.command` takes them.
    """
    roots = [experiment.data.root for experiment in ran if isinstance(experiment.data, Folder | Features)]
    with suppress(UserError):  # a regime whose file is missing, such as one that was renamed
        if roots or isinstance(load_regime(regime_name).data, Folder | Features):
            options = {"data": given("data") or (roots[-1] if roots and roots[-1] else "DIR"), **options}
    return command(name, what, **{"regime": regime_name, **options})
