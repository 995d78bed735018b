"""The charts of a run, in the order of the page."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.evaluation.statistics import estimate_mean
from pipeline.report.charts import Bar, Chart, Line, draw_estimates, draw_histogram, draw_lines, draw_parts
from pipeline.report.findings import LOST_COLUMNS, LOST_NAMES, ValueScore, choose_values, percent
from pipeline.report.run_data import RunData, Training


def draw_run(run: RunData, by_attribute: Mapping[str, Sequence[ValueScore]]) -> list[Chart]:
    """Draw all charts for which there are numbers.

    Args:
        run: the run.
        by_attribute: scores of the values of each attribute.
    """
    charts = [_folds(run), _distribution(run), _edges(run), *_attributes(run, by_attribute)]
    charts += [_thresholds(run), _calibration(run), _gains(run), *_training_curves(run)]
    return [chart for chart in charts if chart]


def _folds(run: RunData) -> Chart:
    metric, table = run.evaluation.metric, run.table
    bars = [Bar("all", run.evaluation.score, f"{len(table):,}")]
    for fold, part in table.groupby("fold"):
        bars.append(Bar(f"fold {fold}", estimate_mean(part.score.to_numpy(), part.group.to_numpy()), f"{len(part):,}"))
    return draw_estimates(
        f"{metric} of each fold",
        bars,
        f"{metric}, with 95 % intervals over groups",
        "Each image is scored by the model of the fold that was not trained on it. Folds whose intervals do not "
        "overlap have harder images, or a training that went wrong.",
        reference=(run.evaluation.score.value, "mean"),
        note="images",
    )


def _distribution(run: RunData) -> Chart:
    scores, metric = run.table.score.to_numpy(), run.evaluation.metric
    quantiles = np.quantile(scores, [0.01, 0.1, 0.5])
    caption = "1 % of the images score below {:.5f}, 10 % below {:.5f}, half below {:.5f}.".format(*quantiles)
    return draw_histogram(f"{metric} of single images", scores, metric, caption, float(scores.mean()))


def _edges(run: RunData) -> Chart | None:
    columns, table = list(LOST_COLUMNS), run.table
    if not set(columns) <= set(table.columns):
        return None
    worst = table.nsmallest(max(1, len(table) // 10), "score")
    folds = [(f"fold {fold}", part[columns].mean()) for fold, part in table.groupby("fold")]
    rows = [("all", table[columns].mean()), *(folds if len(folds) > 1 else []), ("worst tenth", worst[columns].mean())]
    parts = np.array([row.to_numpy() for _, row in rows])
    share = parts[0] / max(parts[0].sum(), 1e-12)
    caption = (
        "Lost Dice by the distance of the wrong pixels to the true edge, at native size: "
        f"{percent(share[:2].sum())} within 2 pixels, {percent(share[-1])} beyond 8. Losses near the edge need finer "
        "edges; those far away are whole parts."
    )
    names = [name for name, _ in rows]
    return draw_parts("Lost Dice by distance to the edge", names, LOST_NAMES, parts, "1 − Dice", caption)


def _attributes(run: RunData, by_attribute: Mapping[str, Sequence[ValueScore]]) -> list[Chart]:
    charts, metric = [], run.evaluation.metric
    for name, scores in by_attribute.items():
        chosen = choose_values(scores)
        if len(chosen) < 2:
            continue
        bars = [Bar(one.value, one.estimate, f"{one.images:,}") for one in chosen]
        weakest = min(chosen, key=lambda one: one.estimate.value)
        left_out = (
            f" {len(chosen)} of {len(scores)} values are shown, the worst ones." if len(chosen) < len(scores) else ""
        )
        alone = (
            " Hollow: a single group, so nothing is known about the spread."
            if any(one.groups < 2 for one in chosen)
            else ""
        )
        of = f"{weakest.images:,} images of {weakest.groups:,} groups"
        caption = f"Lowest: {weakest.value}, {weakest.estimate.value:.5f} over {of}.{left_out}{alone}"
        mean = (run.evaluation.score.value, "mean")
        title = f"{metric} by {name}"
        charts.append(draw_estimates(title, bars, metric, caption, reference=mean, note="images"))
    return charts


def _thresholds(run: RunData) -> Chart:
    metric, analysis = run.evaluation.metric, run.analysis
    # Far from the best threshold the score falls so deep that nothing near it could be seen.
    mean = np.mean([curve.scores for curve in analysis.classes], axis=0)
    keep = mean >= mean.max() - max(0.002, 8 * (mean.max() - np.median(mean)))
    x = np.array(analysis.thresholds)[keep]
    lines = [
        Line(curve.name or metric, x.tolist(), np.array(curve.scores)[keep].tolist()) for curve in analysis.classes
    ]
    used = ", ".join(
        f"{one.name + ': ' if one.name else ''}{one.threshold:.3f} (best {one.best_threshold:.3f})"
        for one in run.evaluation.classes
    )
    thresholds = {one.threshold for one in run.evaluation.classes}
    marks = [(one, f"used, {one:.3f}") for one in thresholds] if len(thresholds) == 1 else []
    caption = f"Used: {used}. A flat top means that the threshold matters little."
    return draw_lines(
        f"{metric} against the threshold", lines, ("threshold of the probability", metric), caption, marks=marks
    )


def _calibration(run: RunData) -> Chart:
    lines, errors = [], []
    for curve in run.analysis.classes:
        bins = [one for one in curve.calibration if one.pixels]
        lines.append(Line(curve.name or "pixels", [one.probability for one in bins], [one.true for one in bins]))
        pixels = sum(one.pixels for one in bins)
        errors.append(sum(one.pixels * abs(one.probability - one.true) for one in bins) / max(pixels, 1))
    caption = (
        "On the dotted line, 70 % of the pixels with probability 0.7 belong to the mask. Below it the model is too "
        f"sure of the mask, above it not sure enough. Mean distance over all pixels: {np.mean(errors):.2g}."
    )
    labels = ("predicted probability", "fraction that is true")
    return draw_lines("Calibration of the probabilities", lines, labels, caption, digits=4, diagonal=True)


def _gains(run: RunData) -> Chart | None:
    evaluation = run.evaluation
    bars = [Bar("flips", run.analysis.flip_gain, "over no flips")] if run.analysis.flip_gain else []
    for one in evaluation.classes:
        name = f"threshold, {one.name}" if one.name else "fitted threshold"
        used = "used" if (one.threshold, one.min_area) == (one.best_threshold, one.best_min_area) else "not used"
        bars.append(Bar(name, one.gain, f"over {evaluation.default_threshold:.3f}; {used}"))
    if len(evaluation.ensemble.used) > 1:
        bars.append(Bar("fitted weights", evaluation.ensemble.gain, "over equal weights"))
        best = evaluation.ensemble
        bars.append(Bar("ensemble", best.gain_over_best_recipe, f"over {best.best_recipe} alone"))
    if not bars:
        return None
    caption = (
        "Paired differences on the same images. An interval on one side of 0 is significant. Averaging the folds "
        "brings more, but no image is out of fold for all of them, so that cannot be measured here."
    )
    label = f"gain in {evaluation.metric}, with 95 % intervals"
    zero = (0.0, "no gain")
    return draw_estimates(
        "What flips and thresholds bring", bars, label, caption, reference=zero, signed=True, note="compared"
    )


def _training_curves(run: RunData) -> list[Chart]:
    trainings = [one for one in run.trainings if one.epochs]
    metric = run.competition.metric
    charts = []
    loss = [line for one in trainings if (line := _line(one, run, "loss"))]
    if loss:
        caption = "A line that ends above the others is a fold that learned less."
        charts.append(draw_lines("Training loss", loss, ("epoch", "loss (log scale)"), caption, log=True))
    error = [
        Line(line.label, line.x, [max(1 - y, 1e-6) for y in line.y])
        for one in trainings
        if (line := _line(one, run, metric))
    ]
    if error and max(len(line.x) for line in error) > 1:
        label = f"1 − {run.evaluation.metric} (log scale)"
        caption = "Error on the images of the fold, without flips. If it still falls at the end, more epochs may help."
        charts.append(draw_lines("Validation error", error, ("epoch", label), caption, log=True))
    return charts


def _line(training: Training, run: RunData, key: str) -> Line | None:
    rows = [row for row in training.epochs if isinstance(row.get(key), int | float) and np.isfinite(row[key])]
    label = f"{training.recipe} {training.fold}" if "+" in run.recipe else training.name
    return Line(label, [row["epoch"] for row in rows], [row[key] for row in rows]) if rows else None
