"""Write the page of a submission without ground truth, most suspicious masks first, or of two submissions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.data.attributes import read_attributes
from pipeline.data.samples import Sample, load_test_samples
from pipeline.errors import UserError
from pipeline.paths import submission_doubts, submission_metadata
from pipeline.report.charts import draw_histogram
from pipeline.report.gallery import GalleryItem
from pipeline.report.look_page import (
    Findings,
    Headline,
    Look,
    choose_first,
    describe_choice,
    load_masks,
    write_look,
)
from pipeline.report.page import format_percent
from pipeline.report.views import MaskNames
from pipeline.submission.agreement import compare_submissions
from pipeline.submission.doubts import read_doubts
from pipeline.submission.measure import measure_submission
from pipeline.submission.shapes import expected_shapes
from pipeline.submission.suspicion import REASONS, describe_reasons, find_suspicions

CLEAR = 0.01
"""Suspicions from this fraction of the mask are counted as clear: an image then costs more than 1 % of its score."""
APART = 0.98
"""Masks of two submissions with a Dice below this are counted as different."""


def write_submission_report(competition: Competition, data: Path, submissions: Sequence[Path]) -> Path:
    """Write ``reports/submission-<name>/index.html``, or ``reports/submission-<a>-vs-<b>/index.html`` of two.

    Args:
        competition: the competition.
        data: the data folder with the test images.
        submissions: one .csv or .csv.gz file, or two.

    Returns:
        The path of the page.

    Raises:
        UserError: not one or two files; a file cannot be read or has an invalid mask; a test image is missing.
    """
    if len(submissions) not in (1, 2):
        what = f"names {len(submissions)} files"
        raise UserError("SUBMISSION", what, 'give one, or two: SUBMISSION="a.csv.gz b.csv.gz"')
    samples = {sample.id: sample for sample in load_test_samples(competition, data)}
    shapes = expected_shapes(competition, data)
    if missing := next((id for id, _ in shapes if id not in samples), None):
        raise UserError(data, f"has no image {missing}, which a submission must have", "download the test images")
    attributes = read_attributes(competition, data, list(samples.values()))
    if len(submissions) == 2:
        table = compare_submissions(submissions[0], submissions[1], competition, shapes)
        look = _look_at_two(competition, submissions, table, samples, attributes)
    else:
        doubts = read_doubts(submission_doubts(submissions[0]))
        table = measure_submission(submissions[0], competition, shapes)
        table = find_suspicions(
            table,
            {id: sample.group for id, sample in samples.items()},
            attributes,
            doubts,
            may_be_empty=competition.masks.may_be_empty,
        )
        rows_missing = len(shapes) - len(table)
        look = _look_at_one(competition, submissions[0], table, samples, attributes, rows_missing)
    return write_look(look, competition)


def _look_at_one(
    competition: Competition,
    path: Path,
    table: pd.DataFrame,
    samples: Mapping[str, Sample],
    attributes: Mapping[str, Mapping[str, str]],
    rows_missing: int,
) -> Look:
    name = submission_name(path)
    clear = table[table.suspicion - table.doubt.fillna(0) >= CLEAR]
    ids = {reason.name: table.sort_values(reason.column, ascending=False, kind="stable") for reason in REASONS}
    sets = {
        reason.name: list(dict.fromkeys(ids[reason.name].id[ids[reason.name][reason.column] > 0])) for reason in REASONS
    }
    ordered = list(dict.fromkeys(table.id))
    chosen = choose_first(ordered, {name: found for name, found in sets.items() if found})
    masks = load_masks(competition, path, {id: samples[id].image for id in chosen})
    notes: dict[str, list[str]] = {id: [] for id in chosen}
    for row in table[table.id.isin(chosen.keys())].itertuples():
        class_name = competition.classes[row.class_index] if competition.classes else ""
        notes[row.id] += describe_reasons(table.loc[row.Index], class_name).values()
    items = (
        GalleryItem(
            id=id,
            image=samples[id].image,
            group=samples[id].group,
            predicted=masks[id],
            notes=tuple(notes[id]) or (_describe_doubt(table, id),),
            sets=chosen[id],
            attributes=attributes.get(id, {}),
        )
        for id in chosen
    )
    rows = [
        (reason.name, f"{(table[reason.column] > 0).sum():,}", f"{(table[reason.column] >= CLEAR).sum():,}")
        for reason in REASONS
        if (table[reason.column] > 0).any()
    ]
    headline = Headline(
        "masks stand out clearly",
        f"{len(clear):,}",
        (
            f"of {len(table):,}: more than {CLEAR:.0%} of the mask is unlike what is usual in this file.".replace(
                "%", " %"
            ),
            "No ground truth is used. Each mask is compared with its group and with images of the same properties.",
        ),
    )
    return Look(
        name=f"submission-{name}",
        title=name,
        kind="a submission, without ground truth",
        headline=headline,
        findings=Findings("Why", ("reason", "masks", "clearly"), tuple(rows)),
        facts_title="The file",
        facts=tuple(_list_facts(path, table, rows_missing)),
        first_title="The most suspicious masks",
        shown=describe_choice(len(chosen), len(ordered), "the most suspicious"),
        items=tuple(items),
        order_label="most suspicious first",
        names=MaskNames(predicted="mask"),
    )


def _describe_doubt(table: pd.DataFrame, id: str) -> str:
    doubt = table.doubt[table.id == id].max()
    return "" if pd.isna(doubt) else f"the model expects to lose {doubt:.3f} Dice"


def _list_facts(path: Path, table: pd.DataFrame, rows_missing: int) -> list[tuple[str, str]]:
    """List what is in the file and how it was made, as (name, value)."""
    try:
        made = json.loads(submission_metadata(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        made = {}
    covered = table.area / (table.height * table.width)
    doubt = table.doubt.mean()
    facts = [
        ("Masks", f"{len(table):,} of {table.id.nunique():,} images, {(table.area == 0).sum():,} empty"),
        ("Missing", f"{rows_missing:,} rows: run `make predict` again" if rows_missing else ""),
        ("Filled", f"{len(made.get('filled', ())):,} images that could not be read" if made.get("filled") else ""),
        ("Covered area", f"{format_percent(covered.mean())} of an image on average"),
        ("Pieces", f"{table.pieces.mean():.2f} on average, {(table.pieces > 1).sum():,} masks with several"),
        (
            "Doubt",
            "not known: only `make predict` writes it"
            if pd.isna(doubt)
            else f"{doubt:.4f} Dice, which the model expects to lose on average",
        ),
        ("Recipe", str(made.get("recipe", ""))),
        ("Threshold", ", ".join(f"{value:.3f}" for value in made.get("threshold", ()))),
        ("Commit", str(made.get("commit", ""))),
    ]
    return [(name, value) for name, value in facts if value]


def _look_at_two(
    competition: Competition,
    paths: Sequence[Path],
    table: pd.DataFrame,
    samples: Mapping[str, Sample],
    attributes: Mapping[str, Mapping[str, str]],
) -> Look:
    names = [submission_name(path) for path in paths]
    labels = names if names[0] != names[1] else [str(path) for path in paths]
    by_image = table.groupby("id", sort=False).agg(
        dice=("dice", "mean"), area=("area", "sum"), other=("other_area", "sum")
    )
    by_image = by_image.sort_values("dice", kind="stable")
    chosen = choose_first(list(by_image.index), {"Differ": list(by_image.index[by_image.dice < APART])})
    images = {id: samples[id].image for id in chosen}
    masks = [load_masks(competition, path, images) for path in paths]
    items = (
        GalleryItem(
            id=id,
            image=samples[id].image,
            group=samples[id].group,
            score=float(by_image.dice[id]),
            predicted=masks[0][id],
            other=masks[1][id],
            notes=(_describe_areas(by_image.area[id], by_image.other[id], labels[1]),),
            sets=chosen[id],
            attributes=attributes.get(id, {}),
        )
        for id in chosen
    )
    dice, total = by_image.dice, table[["area", "other_area"]].sum()
    limits = [(f"below {limit}", f"{(dice < limit).sum():,}") for limit in (0.5, 0.9, 0.95, 0.98, 0.99)]
    change = total.other_area / max(total.area, 1) - 1
    chart = draw_histogram(
        "Dice between the two masks of an image",
        dice.to_numpy(),
        "Dice between them",
        "Where they differ, at least one of them is wrong; where they agree, both may be.",
        float(dice.mean()),
    )
    return Look(
        name=f"submission-{names[0]}-vs-{names[1]}",
        title=f"{labels[0]} and {labels[1]}",
        kind="two submissions",
        headline=Headline(
            "mean Dice between them",
            f"{dice.mean():.5f}",
            (
                f"The masks of {(dice < APART).sum():,} of {len(dice):,} images differ clearly (Dice below {APART}), "
                f"those of {(dice == 1).sum():,} are the same.",
                f"{labels[1]} covers {format_percent(abs(change))} {'more' if change > 0 else 'less'} than {labels[0]}.",
            ),
        ),
        findings=Findings("How far apart", ("Dice between them", "images"), tuple(limits)),
        facts_title="The files",
        facts=(("First", str(paths[0])), ("Second", str(paths[1])), ("Lowest", f"{dice.iloc[0]:.5f}, {dice.index[0]}")),
        first_title="Where they differ most",
        shown=describe_choice(len(chosen), len(by_image), "those that differ most"),
        items=tuple(items),
        order_label="",
        names=MaskNames(predicted=labels[0], other=labels[1]),
        charts=(chart,),
        score_label="Dice between them",
    )


def _describe_areas(area: int, other: int, name: str) -> str:
    if area == other:
        return "equal areas"
    if not area:
        return f"only {name} has a mask"
    if not other:
        return f"{name} has no mask"
    return f"{name}: {format_percent(abs(other / area - 1))} {'larger' if other > area else 'smaller'}"


def submission_name(path: Path) -> str:
    """Return the name of a file without .csv or .csv.gz."""
    return submission_metadata(path).stem
