"""The parts of a report's page, each a function of the exported results; a notebook cell calls one of them.

A block shows itself as HTML in a notebook and on the page, and as plain text elsewhere. Every template escapes what
it is given: names of rows, errors and paths come out as text.
"""

import pandas as pd

from tadaconv.metrics import Metric
from tadaconv.reporting.ablation import text
from tadaconv.reporting.ablation.answer import answer, judged
from tadaconv.reporting.ablation.data import Export, Manifest
from tadaconv.reporting.ablation.learned import learned as learned_of
from tadaconv.reporting.ablation.summary import (
    base_verdicts,
    by_label,
    differing,
    is_marked,
    summarise,
    table_columns,
    validation_clips,
)
from tadaconv.reporting.ablation.table import columns, columns_of_tests
from tadaconv.reporting.core.export import no_number
from tadaconv.reporting.core.format import at_once, percent
from tadaconv.reporting.core.page import Block, flat, render
from tadaconv.reporting.core.table import Cell, Column, Line
from tadaconv.text import plural


def headline(export: Export) -> Block:
    """The question of the table, the answer in a sentence, and what was run for it."""
    question = text.title(export.manifest)
    ran = text.what_was_run(export)
    sentence = answer(export)
    html = render("headline", manifest=export.manifest, question=question, answer=sentence, ran=ran)
    return Block(html, "\n".join(filter(None, [question, sentence, ran])))


def claims(export: Export) -> Block | None:
    """Each claim of the paper with its verdict and the numbers behind it, folded away; None without claims."""
    if not export.manifest.claims:
        return None
    lines = judged(export).to_dict("records")
    metric, design = export.metric, export.manifest.design
    with_sentences = [
        {
            **line,
            "in_words": text.verdict_in_words(line["verdict"], design, metric),
            "sentence": text.claim_sentence(line, metric, design),
        }
        for line in lines
    ]
    opening = text.claims_summary([line["verdict"] for line in lines])
    summary = summarise(export)
    # Marks are adjusted for the rows that were tested; of two rows there is one test, and nothing to adjust.
    stricter = bool(is_marked(summary).any()) and int((summary["standing"] != "").sum()) > 2
    rates = text.rates_sentence(lines, design)
    plain = [f"{opening} {rates}", *(f"{c['in_words']}: {c['text']} {c['sentence']}" for c in with_sentences)]
    html = render("claims", opening=opening, rates=rates, claims=with_sentences, stricter=stricter)
    return Block(html, "\n".join(plain))


def learned(export: Export) -> Block:
    """What the cells of the table cost and decided, and what the rest or other designs would take."""
    sentences = text.learned_sentences(export, learned_of(export))
    return Block(render("learned", sentences=sentences), " ".join(sentences))


def results(export: Export) -> Block:
    """The table, with notes on what its numbers cover.

    Folded away behind it: tests, their power, and how the numbers compare with the paper's and other regimes'.
    """
    summary, base, metric, labels = summarise(export), export.manifest.base, export.metric, by_label(export)
    tests = base_verdicts(export)
    tests = tests[tests["n"] > 1]
    html = render(
        "results",
        columns=columns(summary, base, metric, "page"),
        rows=summary.to_dict("records"),
        metric=metric,
        label_columns=_label_columns(labels, metric),
        label_rows=[{"row": row, "status": ""} for row in labels["row"].unique()],
        notes=text.table_notes(export, summary),
        test_columns=columns_of_tests(export),
        tests=tests.assign(status="").to_dict("records"),
        test_notes=text.power_notes(export, summary),
        order_notes=[
            *text.paper_notes(export, summary),
            *text.elsewhere_notes(export),
            *text.tau_note(export),
        ],
    )
    tables = [df for df in (summary[table_columns(summary, base, metric)], labels) if len(df)]
    return Block(html, "\n\n".join(df.to_string(index=False) for df in tables))


def _label_columns(labels: pd.DataFrame, metric: Metric) -> list[Column]:
    """Of the lines of :func:`~.summary.by_label`, a column for each set of clips and label."""
    heads = [name for name in labels["label"].unique() if name]
    known = labels.set_index(["row", "clips", "label"]).reindex(columns=[metric.column("mean"), "top5_mean"])

    def column(clips: str, label: str, num_val: int) -> Column:
        def cell(line: Line) -> Cell:
            mean, top5 = known.reindex([(line["row"], clips, label)]).iloc[0]
            return Cell(percent(mean), notes=(f"top-5 {percent(top5)}",) if top5 == top5 else ())

        name = label or (at_once(heads) if heads else metric.label)
        return Column(name if clips == "all" else f"{clips}: {name}", cell, plural(num_val, metric.samples[:-1]))

    pairs = labels[["clips", "label", "num_val"]].drop_duplicates(["clips", "label"])
    names = Column("row", lambda line: str(line["row"]), holds_names=True)
    return [names, *(column(*pair) for pair in pairs.itertuples(index=False, name=None))]


def failures(export: Export) -> Block | None:
    """The cells that failed, with their errors; None where none did."""
    failed = export.cells[export.cells["status"] == "failed"].to_dict("records")
    if not failed:
        return None
    plain = "\n".join(f"{cell['row']}, seed {cell['seed']}: {cell['error']}" for cell in failed)
    reason = no_number(export.metric)
    unfinished = [cell for cell in failed if cell["error"] != reason]
    with_result = len(failed) - len(unfinished)
    return Block(
        render("failures", failed=failed, num_unfinished=len(unfinished), num_with_result=with_result, reason=reason),
        plain,
    )


def conditions(export: Export) -> Block:
    """What the table is about; what all cells share, backbone, clips, recipe and seeds; and in which rows differ."""
    manifest = export.manifest
    about = [part for part in manifest.question.split("\n\n")[1:] if part.strip()]
    groups = {name: flat(values) for name, values in manifest.conditions.items()}
    by_row = _by_row(manifest)
    html = render(
        "conditions",
        manifest=manifest,
        about=about,
        groups=groups,
        by_row=by_row,
        clips=validation_clips(manifest),
        sample=export.metric.samples[:-1],
    )
    return Block(html, "\n".join([*about, *(f"{name}: {values}" for name, values in {**groups, **by_row}.items())]))


_WHOSE = {"paper": " (the paper\u2019s)", "ours": " (ours, not the paper\u2019s)"}
"""By whose recipe it is, the words behind it."""


def _by_row(manifest: Manifest) -> dict[str, dict[str, list[str]]]:
    """Where rows differ in backbone, frames or recipe: each with its rows, and what a backbone stands in for."""
    asked = {row.name: row.backbone for row in manifest.rows}
    recipe_of = {row.name: row.recipe for row in manifest.rows}
    by_row: dict[str, dict[str, list[str]]] = {}
    for aspect, values in differing(manifest).items():
        rows_of = by_row.setdefault(f"{aspect.removeprefix('num_')} by row", {})
        for row, value in values.items():
            stands_in = aspect == "backbone" and asked[row] not in (None, value)
            in_words = f"{value} for {asked[row]}" if stands_in else str(value)
            whose = _WHOSE.get(recipe_of[row] or "", "") if aspect == "recipe" else ""
            rows_of.setdefault(in_words + whose, []).append(row)
    return by_row


def methods(export: Export) -> Block | None:
    """How the numbers of this page are made, with references; None where there are no numbers."""
    used = text.methods_used(export, summarise(export))
    if not used - {"claims", "many claims"}:
        return None
    design, metric = export.manifest.design, export.metric
    smallest = text.smallest_in_words(design, metric)
    html = render(
        "methods", used=used, metric=metric, design=design, smallest=smallest, detection=text.detection_methods(export)
    )
    return Block(html, "The page has the methods with their references.")
