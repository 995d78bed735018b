"""Write the page of two evaluated recipes: which images got better or worse, and by how much on average."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.evaluation.statistics import estimate_mean, paired_gain
from pipeline.models.checkpoint import read_weights_metadata
from pipeline.paths import fold_run, oof_csv, oof_masks_csv, run_name
from pipeline.report.charts import Bar, Chart, draw_estimates, draw_histogram
from pipeline.report.findings import ValueScore, choose_values, score_by_value
from pipeline.report.look_page import Findings, Headline, Look, choose_first, describe_choice, write_look
from pipeline.report.masks import load_masks
from pipeline.report.run_data import RunData, load_run_data
from pipeline.report.run_page import make_items
from pipeline.report.views import MaskNames, list_views

LISTED = 8
"""Values of attributes beside the headline."""


def write_recipe_comparison(competition: Competition, data: Path, recipes: Sequence[str]) -> Path:
    """Write ``reports/<competition>-<a>-vs-<b>/index.html``.

    Args:
        competition: the competition.
        data: the data folder.
        recipes: the names of two recipes that are evaluated on the same images, each perhaps several joined by ``+``.

    Returns:
        The path of the page.

    Raises:
        UserError: not two different recipes; one is not evaluated, or on other images; or see `load_run_data`.
    """
    if len(recipes) != 2 or recipes[0] == recipes[1]:
        raise UserError("RECIPES", f"names {' '.join(recipes) or 'none'}", 'give two recipes: RECIPES="a b"')
    before, after = (load_run_data(competition, recipe, data) for recipe in recipes)
    if before.evaluation.metric != after.evaluation.metric:
        what = f"was scored with {after.evaluation.metric}, {recipes[0]} with {before.evaluation.metric}"
        raise UserError(after.runs, what, "run `make evaluate` again for both")
    return write_look(look_at_recipes(before, after), competition)


def look_at_recipes(before: RunData, after: RunData) -> Look:
    """Describe what changed between two runs.

    Raises:
        UserError: they were evaluated on other images.
    """
    metric, names = before.evaluation.metric, (before.recipe, after.recipe)
    gain = paired_gain(oof_csv(before.runs), oof_csv(after.runs)).gain
    table = pair_tables(before.table, after.table)
    by_attribute = _difference_by_attribute(table, before.attributes)
    # The largest changes first, in either direction.
    ordered = table.loc[table.score.abs().sort_values(ascending=False, kind="stable").index]
    worse, better = (list(ordered.id[changed]) for changed in (ordered.score < 0, ordered.score > 0))
    sets = {name: ids for name, ids in (("Got worse", worse), ("Got better", better)) if ids}
    chosen = choose_first(list(ordered.id), sets)
    others = load_masks(before.competition, oof_masks_csv(after.runs), {id: before.samples[id].image for id in chosen})
    changes = dict(zip(table.id, zip(table.before.tolist(), table.after.tolist(), strict=True), strict=True))
    items = (
        replace(item, other=others[item.id], score=changes[item.id][1], notes=(describe_change(*changes[item.id]),))
        for item in make_items(before, list(chosen), chosen)
    )
    verdict = "the difference is significant" if gain.is_significant else "the difference may be chance"
    return Look(
        name=run_name(before.competition.name, f"{names[0]}-vs-{names[1]}"),
        title=f"{names[0]} → {names[1]}",
        kind="two recipes, out of fold",
        headline=Headline(
            f"{metric}, {names[1]} minus {names[0]}",
            f"{gain.value:+.5f}",
            (
                f"95 % interval {gain.low:+.5f} to {gain.high:+.5f}, over {table.group.nunique():,} groups: {verdict}.",
                f"{len(better):,} images got better, {len(worse):,} got worse, of {len(table):,}.",
            ),
        ),
        findings=_find_changes(by_attribute),
        facts_title="The recipes",
        facts=tuple(_list_facts(before, after)),
        first_title="The largest changes",
        shown=describe_choice(len(chosen), len(table), "the largest changes"),
        items=tuple(items),
        order_label="largest change first",
        views=tuple(list_views(MaskNames(predicted=names[0], other=names[1]), truth=True, other=True)),
        charts=tuple(_draw_changes(table, gain.value, by_attribute, metric)),
        score_label=f"{metric} of {names[1]}",
    )


def pair_tables(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Join two tables of out-of-fold scores by id.

    Returns:
        Columns id, group, fold, before, after, and score: their difference.
    """
    both = before[["id", "group", "fold", "score"]].merge(
        after[["id", "score"]], on="id", suffixes=("_before", "_after")
    )
    both = both.rename(columns={"score_before": "before", "score_after": "after"})
    return both.assign(score=both.after - both.before)


def _difference_by_attribute(
    table: pd.DataFrame, attributes: Mapping[str, Mapping[str, str]]
) -> dict[str, list[ValueScore]]:
    names = dict.fromkeys(name for values in attributes.values() for name in values)
    return {
        name: score_by_value(table, {id: values[name] for id, values in attributes.items() if name in values})
        for name in names
    }


def _find_changes(by_attribute: Mapping[str, Sequence[ValueScore]]) -> Findings:
    """List the values of attributes whose images changed for certain, the largest part of the change first."""
    found = [
        (name, one)
        for name, scores in by_attribute.items()
        for one in scores
        if one.groups > 1 and one.estimate.is_significant
    ]
    found.sort(key=lambda pair: -abs(pair[1].estimate.value) * pair[1].images)
    rows = [(f"{name} {one.value}", f"{one.estimate.value:+.5f}", f"{one.images:,}") for name, one in found[:LISTED]]
    return Findings("Where it changed", ("images with", "difference", "images"), tuple(rows))


def describe_change(before: float, after: float) -> str:
    """Write two scores and their difference: ``0.98100 → 0.99120 (+0.01020)``."""
    return f"{before:.5f} → {after:.5f} ({after - before:+.5f})"


def _list_facts(before: RunData, after: RunData) -> list[tuple[str, str]]:
    facts = []
    for run in (before, after):
        score = run.evaluation.score
        facts.append((run.recipe, f"{score.value:.5f}, 95 % interval {score.low:.5f} to {score.high:.5f}"))
    for run in (before, after):
        minutes = sum(training.minutes or 0 for training in run.trainings)
        facts.append((f"Minutes of {run.recipe}", f"{minutes:,.0f}, all folds" if minutes else ""))
    facts.append(("Differences", "; ".join(training_differences(before, after))))
    return [(name, value) for name, value in facts if value]


def training_differences(before: RunData, after: RunData) -> list[str]:
    """List the keys in which two single recipes were trained differently; nothing if the weights are not there."""
    recipes = []
    for run in (before, after):
        paths = [fold_run(run.runs, fold).weights for fold in run.evaluation.folds]
        found = next((path for path in paths if path.exists()), None)
        if found is None:
            return []
        recipes.append(read_weights_metadata(found)[0])
    return recipes[0].training_differences(recipes[1])


def _draw_changes(
    table: pd.DataFrame, mean: float, by_attribute: Mapping[str, Sequence[ValueScore]], metric: str
) -> list[Chart]:
    label = f"difference of {metric}"
    charts = []
    folds = [
        Bar(f"fold {fold}", estimate_mean(part.score.to_numpy(), part.group.to_numpy()), f"{len(part):,}")
        for fold, part in table.groupby("fold")
    ]
    zero = (0.0, "no change")
    if len(folds) > 1:
        caption = "With 95 % intervals over groups. A change that only one fold shows is more likely to be chance."
        charts.append(
            draw_estimates("Difference of each fold", folds, label, caption, reference=zero, signed=True, note="images")
        )
    caption = "Most images change little; look at the ends."
    charts.append(draw_histogram("Difference of single images", table.score.to_numpy(), label, caption, mean))
    for name, scores in by_attribute.items():
        chosen = choose_values(scores)
        if len(chosen) > 1:
            bars = [Bar(one.value, one.estimate, f"{one.images:,}") for one in chosen]
            caption = "With 95 % intervals over groups."
            charts.append(
                draw_estimates(
                    f"Difference by {name}", bars, label, caption, reference=zero, signed=True, note="images"
                )
            )
    return charts
