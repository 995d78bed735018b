"""Write the page of a run: how good it is, where it fails, and its images."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.competition import Competition
from pipeline.paths import oof_masks_csv, report_folder, run_name
from pipeline.report.findings import describe_failures, score_by_value
from pipeline.report.gallery import MAX_EMBEDDED, GalleryItem, build_gallery
from pipeline.report.masks import load_masks, read_true_masks
from pipeline.report.page import write_page
from pipeline.report.run_charts import draw_run
from pipeline.report.run_data import RunData, Training, load_run_data

WORST = 4
"""Images at the top of the page."""


def write_run_report(
    competition: Competition, recipe: str, data: Path, *, full: bool = False, price: float | None = None
) -> Path:
    """Write ``reports/<competition>-<recipe>/index.html``.

    Args:
        competition: the competition.
        recipe: name of a recipe, or several joined by ``+``, that is evaluated.
        data: the data folder.
        full: whether to write thumbnails of all images beside the page.
        price: of one hour of the hardware, in any currency; for the cost of the trainings.

    Returns:
        The path of the page.

    Raises:
        UserError: see `load_run_data` and `build_gallery`.
    """
    run = load_run_data(competition, recipe, data)
    folder = report_folder(run_name(competition.name, recipe))
    names = list(dict.fromkeys(name for values in run.attributes.values() for name in values))
    by_attribute = {
        name: score_by_value(run.table, {id: values[name] for id, values in run.attributes.items() if name in values})
        for name in names
    }
    sets = choose_images(run.table)
    rest = run.table[~run.table.id.isin(sets.keys())].sort_values("score") if full else run.table[:0]
    ids = [*sets, *rest.id]
    items = dict(zip(ids, make_items(run, ids, sets), strict=True))
    gallery = build_gallery(
        [items[id] for id in sets],
        folder,
        classes=competition.classes,
        more=[items[id] for id in rest.id],
        score_label=run.evaluation.metric,
    )
    if not full:
        shutil.rmtree(folder / "images", ignore_errors=True)
    path = folder / "index.html"
    write_page(
        path,
        "run.html",
        title=f"{competition.name} · {recipe}",
        competition=competition,
        run=run,
        facts=list_facts(run, price),
        failures=describe_failures(run.table, by_attribute, run.evaluation.metric, competition.num_classes),
        charts=draw_run(run, by_attribute),
        gallery=gallery,
        worst=gallery.cards[:WORST],
        complete=len(ids) == len(run.table),
    )
    return path


def choose_images(table: pd.DataFrame, most: int = MAX_EMBEDDED) -> dict[str, tuple[str, ...]]:
    """Choose the images of the page: all if there are few, else the worst, some of each fold, random and best ones.

    Args:
        table: columns id, fold and score.
        most: most images.

    Returns:
        Id -> names of the sets that it belongs to, worst first.
    """
    ordered = table.sort_values(["score", "id"], kind="stable")
    folds = sorted(ordered.fold.unique().tolist())
    count = min(most, len(table))
    of_fold = count // 4 // max(1, len(folds)) if len(folds) > 1 else 0
    sets = {"Worst": ordered.id[: max(1, count // 2 - count // 10)]}
    sets |= {f"Worst of fold {fold}": ordered.id[ordered.fold == fold][:of_fold] for fold in folds if of_fold}
    sets["Random"] = table.id.sample(max(1, count // 5), random_state=0)
    sets["Best"] = ordered.id[::-1][: max(1, count // 10)]
    chosen: dict[str, list[str]] = {}
    for name, ids in sets.items():
        for id in ids:
            chosen.setdefault(id, []).append(name)
    # An image can be in several sets; the next worst ones take the places that are left.
    rest = [id for id in ordered.id if id not in chosen][: most - len(chosen)]
    chosen |= {id: ["Worst"] if len(table) > most else [] for id in rest}
    return {id: tuple(chosen[id]) for id in ordered.id if id in chosen}


def make_items(run: RunData, ids: Sequence[str], sets: Mapping[str, Sequence[str]]) -> list[GalleryItem]:
    """Make the items of the gallery; masks are read where they are encoded.

    Raises:
        UserError: the file of the predicted masks cannot be read, or lacks an image.
    """
    masks = load_masks(run.competition, oof_masks_csv(run.runs), {id: run.samples[id].image for id in ids})
    table = run.table.set_index("id")
    return [
        GalleryItem(
            id=id,
            image=run.samples[id].image,
            group=str(table.group[id]),
            fold=int(table.fold[id]),
            score=float(table.score[id]),
            truth=partial(read_true_masks, run.competition, run.samples[id]),
            predicted=masks[id],
            sets=tuple(sets.get(id, ())),
            attributes=run.attributes[id],
        )
        for id in ids
    ]


def list_facts(run: RunData, price: float | None = None) -> list[tuple[str, str]]:
    """List what was trained, with what and how long, as (name, value)."""
    evaluation, trainings = run.evaluation, run.trainings
    facts: list[tuple[str, Any]] = [
        ("Images", f"{evaluation.images:,} of {evaluation.groups:,} groups, {_plural(len(evaluation.folds), 'fold')}"),
        ("Pixel accuracy", f"{evaluation.accuracy:.5f}"),
        ("Hardware", _join(one.metadata.hardware for one in trainings)),
        ("Training time", _training_time(trainings)),
        ("Speed", _speed(trainings)),
        ("Cost", _cost(trainings, price)),
        ("Epochs", _join(one.metadata.epochs for one in trainings)),
        ("Commit", _join([*(f"{one.metadata.commit} (training)" for one in trainings if one.metadata.commit),
                          *([f"{evaluation.commit} (evaluation)"] if evaluation.commit else [])])),
        ("torch", _join(one.metadata.torch for one in trainings)),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _join(values: Any) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def _training_time(trainings: Sequence[Training]) -> str:
    minutes = [one.minutes for one in trainings if one.minutes]
    if not minutes:
        return ""
    total = sum(minutes)
    text = f"{total:,.0f}" if total >= 10 else f"{total:.1f}"
    return f"{text} minutes for {_plural(len(minutes), 'training')}, {np.mean(minutes):,.1f} each"


def _speed(trainings: Sequence[Training]) -> str:
    rates = [one.images_per_second for one in trainings if one.images_per_second]
    return f"{np.mean(rates):,.1f} training images per second" if rates else ""


def _cost(trainings: Sequence[Training], price: float | None) -> str:
    minutes = sum(one.minutes or 0 for one in trainings)
    if price is None or not minutes:
        return ""
    return f"{price * minutes / 60:,.2f}, at {price:g} per hour"
