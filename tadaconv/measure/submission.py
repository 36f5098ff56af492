"""A file of detections, as it is submitted to a benchmark, next to the truth: what ``tada detections`` prints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from tadaconv.data.annotations import Head
from tadaconv.data.timed_annotations import (
    TimedAnnotations,
    TimedVideo,
    finite,
    read_json_object,
    read_timed_annotations,
    span_of,
    subset_names,
)
from tadaconv.errors import UserError, lookup
from tadaconv.measure.detection import (
    ACTIVITYNET_THRESHOLDS,
    EPIC_THRESHOLDS,
    NUM_DRAWS,
    AveragePrecision,
    Instances,
    Predictions,
    Rule,
    average_precision,
    average_recall,
    in_columns,
)
from tadaconv.spec import Record, errors_of
from tadaconv.text import plural

_RULES: dict[str, Rule] = {"official": "official", "authors": "authors"}
_NUMBERS = (1, 5, 10, 100)
"""Of proposals a video, of which the average recall is shown."""
_NUM_SHOWN = 3
"""Classes that are shown at either end."""
_USUAL_SUBSET = "validation"


class Level(Record):
    """Mean average precision at one threshold, with its interval."""

    tiou: float
    map: float = Field(description="In percent.")
    low: float
    high: float


class HeadScores(Record):
    """Scores of one kind of label."""

    average_map: float = Field(description="The mean over thresholds, in percent.")
    low: float = Field(description="95 % bootstrap interval over videos.")
    high: float
    by_tiou: list[Level]
    classes: dict[str, float] = Field(description="Average precision of each class of the truth, mean over thresholds.")


class ScoredDetections(Record):
    """What a file of detections scores."""

    truth: str
    results: str
    subset: str
    rule: Rule
    num_videos: int
    num_instances: int
    num_detections: int
    videos_without_detections: int
    other_videos: int = Field(description="Videos of the results that are not in the subset.")
    other_detections: int = Field(description="Their detections, which count as wrong.")
    other_labels: int = Field(description="Detections with a class that the truth lacks, not counted for that label.")
    heads: dict[str, HeadScores]
    average_recall: dict[int, float] = Field(description="By proposals a video; empty for EPIC-KITCHENS-100.")
    auc: float | None


def score_submission(
    truth: Path, results: Path, subset: str = "", thresholds: Sequence[float] = (), rule: str = ""
) -> ScoredDetections:
    """Score a file of detections by the protocol of the truth's data set.

    Raises :class:`UserError`, in one line, for a file that cannot be read or holds no detection, a score that is no
    finite number, a segment that ends before it begins, and results of other videos or classes only.

    Args:
        truth: annotations, as :func:`tadaconv.data.timed_annotations.read_timed_annotations` takes them.
        results: JSON, ``{"results": {video: [{"label", "score", "segment"}]}}``; for EPIC-KITCHENS-100 with ``verb``
            and ``noun`` in place of ``label``.
        subset: of the truth; empty for ``validation``, or the only one there is.
        thresholds: in tIoU; empty for those of the protocol.
        rule: ``official`` or ``authors``, of EPIC-KITCHENS-100; empty for the official.
    """
    if wrong := [level for level in thresholds if not 0 < level <= 1]:
        raise UserError(f"--tiou {wrong[0]:g} is no threshold; give one above 0 and at most 1")
    chosen_rule = lookup("rule", rule or "official", _RULES)
    annotations = _annotations(truth, subset)
    ((name, videos),) = annotations.subsets.items()
    is_epic = len(annotations.heads) > 1
    if rule and not is_epic:
        raise UserError("--rule is for verbs and nouns of EPIC-KITCHENS-100; leave it out")
    detected = _read_results(results, annotations.heads)
    names = sorted(videos.keys() | detected.keys())
    num_heads = len(annotations.heads)
    true = [videos.get(video, _NOTHING) for video in names]
    instances = Instances(*in_columns([v.spans for v in true], [v.labels for v in true], num_heads))
    rows = [np.array(detected.get(video, ()), dtype=np.float64).reshape(-1, 3 + num_heads) for video in names]
    predictions = Predictions(
        *in_columns([row[:, :2] for row in rows], [row[:, 3:] for row in rows], num_heads),
        scores=np.concatenate([row[:, 2] for row in rows]),
    )
    in_truth = np.array([video in videos for video in names])[predictions.videos]
    lacking = np.stack(
        [~np.isin(predictions.labels[:, head], instances.labels[:, head]) for head in range(num_heads)], axis=1
    )
    if not in_truth.any():
        raise UserError(
            f"{results}: no video is in subset {name!r} of {truth}; it has {next(iter(detected))!r}, and the truth "
            f"{next(iter(videos))!r}; give results of that subset, with the same names"
        )
    if lacking.all():
        raise UserError(f"{results}: no class occurs in subset {name!r} of {truth}; spell classes as the truth does")
    levels = thresholds or (EPIC_THRESHOLDS if is_epic else ACTIVITYNET_THRESHOLDS)
    scored = average_precision(
        instances, predictions, {head: len(classes) for head, classes in annotations.heads}, levels,
        rule=chosen_rule, num_draws=NUM_DRAWS,
    )  # fmt: skip
    recall = None if is_epic else average_recall(instances, predictions, levels)
    return ScoredDetections(
        truth=str(truth),
        results=str(results),
        subset=name,
        rule=chosen_rule,
        num_videos=len(videos),
        num_instances=len(instances),
        num_detections=len(predictions),
        videos_without_detections=sum(not detected.get(video) for video in videos),
        other_videos=len(detected.keys() - videos.keys()),
        other_detections=int((~in_truth).sum()),
        other_labels=int(lacking.any(axis=1).sum()),
        heads={head: _head_scores(of, _class_names(annotations, head)) for head, of in scored.items()},
        average_recall={number: recall.at(number) for number in _NUMBERS} if recall else {},
        auc=recall.auc if recall else None,
    )


_NOTHING = TimedVideo(None, np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


def _annotations(truth: Path, subset: str) -> TimedAnnotations:
    """Those of the one subset that is scored."""
    if not subset:
        names = subset_names(truth)
        if len(names) > 1 and _USUAL_SUBSET not in names:
            raise UserError(f"{truth} has the subsets {', '.join(names)}; name one with --subset")
        subset = _USUAL_SUBSET if _USUAL_SUBSET in names else "".join(names)
    return read_timed_annotations(truth, (subset,) if subset else ())


Detected = list[tuple[float, ...]]
"""The detections of a video: start, end, score and the class of each head, -1 where it is not known."""


def _read_results(path: Path, heads: Sequence[Head]) -> dict[str, Detected]:
    """The detections by video."""
    content = read_json_object(path, "results", 'give {"results": {video: [{"label", "score", "segment"}]}}')
    numbers = {name: number for number, name in enumerate(heads[0][1])} if len(heads) == 1 else {}
    detected = {}
    for video, entries in content.items():
        with errors_of(f"{path}: video {video!r}"):
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise UserError("its detections are no list of objects; correct them")
            detected[video] = [
                (*span_of(e.get("segment")), finite(e.get("score"), "a score"), *_labels(e, heads, numbers))
                for e in entries
            ]
    if not any(detected.values()):
        raise UserError(f"{path} holds no detection; write some before they are scored")
    return detected


def _labels(entry: Mapping[str, Any], heads: Sequence[Head], numbers: Mapping[str, int]) -> tuple[int, ...]:
    """The class of each head; raises :class:`UserError` where one is missing, or the action is of others."""
    if len(heads) == 1:
        if not isinstance(entry.get("label"), str):
            raise UserError(f"a detection has {entry.get('label')!r} for a label; give the name of a class")
        return (numbers.get(entry["label"], -1),)
    given = [number for head, _ in heads if isinstance(number := entry.get(head), int)]
    if len(given) < len(heads):
        raise UserError(f'a detection without "verb" and "noun", the numbers of its classes: {entry!r:.90}')
    if entry.get("action", f"{given[0]},{given[1]}") != f"{given[0]},{given[1]}":
        raise UserError(f"action {entry['action']!r} is not verb {given[0]} with noun {given[1]}; correct it")
    return tuple(n if 0 <= n < len(names) else -1 for n, (_, names) in zip(given, heads, strict=True))


def _class_names(annotations: TimedAnnotations, head: str) -> Mapping[int, str]:
    """Names of classes by number; those of actions are of both labels."""
    names = dict(annotations.heads)
    if head in names:
        return dict(enumerate(names[head]))
    verbs, nouns = names.values()
    return {i * len(nouns) + j: f"{verb} {noun}" for i, verb in enumerate(verbs) for j, noun in enumerate(nouns)}


def _head_scores(of: AveragePrecision, names: Mapping[int, str]) -> HeadScores:
    levels = zip(of.thresholds.tolist(), of.by_threshold.tolist(), of.intervals.tolist(), strict=True)
    by_class = of.by_class.mean(axis=0).tolist()
    return HeadScores(
        average_map=of.mean,
        low=of.interval[0],
        high=of.interval[1],
        by_tiou=[Level(tiou=tiou, map=value, low=low, high=high) for tiou, value, (low, high) in levels],
        classes={names[number]: value for number, value in zip(of.classes.tolist(), by_class, strict=True)},
    )


def render(scored: ScoredDetections) -> Group:
    """The scores as a table for a terminal, with what does not count below."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("tIoU")
    for head in scored.heads:
        table.add_column("mAP" if len(scored.heads) == 1 else head, justify="right", no_wrap=True)
    for levels in zip(*(of.by_tiou for of in scored.heads.values()), strict=True):
        table.add_row(f"{levels[0].tiou:.3g}", *(_cell(level.map, level.low, level.high) for level in levels))
    table.add_row("average", *(_cell(of.average_map, of.low, of.high) for of in scored.heads.values()))
    counts = (
        plural(scored.num_detections, "detection"),
        plural(scored.num_instances, "true segment"),
        plural(scored.num_videos, "video"),
    )
    title = f"{Path(scored.results).name}, {scored.subset} of {Path(scored.truth).name}: {', '.join(counts)}"
    notes = ["In percent, with 95 % bootstrap intervals over videos."]
    if scored.average_recall:
        recalls = ", ".join(f"AR@{number} {value:.1f}" for number, value in scored.average_recall.items())
        notes.append(f"As proposals, regardless of class: {recalls}, AUC {scored.auc:.1f}.")
    for head, of in scored.heads.items():
        ranked = sorted(of.classes.items(), key=lambda item: -item[1])
        if len(ranked) > 2 * _NUM_SHOWN:
            best, worst = (
                ", ".join(f"{escape(name)} {value:.1f}" for name, value in part)
                for part in (ranked[:_NUM_SHOWN], ranked[-_NUM_SHOWN:])
            )
            notes.append(f"{'Classes' if len(scored.heads) == 1 else head.capitalize() + 's'}: {best}, ... {worst}.")
    if scored.rule == "authors":
        notes.append("By the authors' rule, detections of actions that the truth lacks do not count.")
    if scored.videos_without_detections:
        notes.append(f"{plural(scored.videos_without_detections, 'video')} without detections.")
    if scored.other_videos:
        notes.append(
            f"{plural(scored.other_videos, 'video')} of the results not in {escape(scored.subset)}, whose "
            f"detections, {scored.other_detections:,}, count as wrong, as by the official protocol."
        )
    if scored.other_labels:
        label = "" if len(scored.heads) == 1 else " for that label and the action"
        notes.append(
            f"{plural(scored.other_labels, 'detection')} with a class that the truth lacks, not counted{label}."
        )
    return Group(escape(title), "", table, "", *notes)


def _cell(value: float, low: float, high: float) -> str:
    return escape(f"{value:.2f} [{low:.1f}, {high:.1f}]")
