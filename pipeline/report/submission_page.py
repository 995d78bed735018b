"""Write the page of a submission without ground truth, most suspicious masks first."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.data.samples import Sample
from pipeline.paths import submission_metadata
from pipeline.report.gallery import GalleryItem, MaskLoader
from pipeline.report.look_page import Findings, Headline, Look, choose_first, describe_choice
from pipeline.report.masks import load_masks, mark_parts
from pipeline.report.page import format_percent
from pipeline.report.views import list_marked_views
from pipeline.submission.suspicion import REASONS, describe_reasons

CLEAR = 0.01
"""From this fraction of a mask, reasons are clear: if they are right, the image loses about 1 % of its score."""


def look_at_submission(
    competition: Competition,
    path: Path,
    table: pd.DataFrame,
    samples: Mapping[str, Sample],
    attributes: Mapping[str, Mapping[str, str]],
    rows_missing: int,
) -> Look:
    """Describe a submission.

    Args:
        competition: the competition.
        path: the submission.
        table: from `pipeline.submission.suspicion.find_suspicions`.
        samples: id -> test image.
        attributes: id -> name -> value.
        rows_missing: number of rows that the file lacks.
    """
    ordered = list(dict.fromkeys(table.id))
    sets = {reason.name: _ids_with(table, reason.column) for reason in REASONS if table[reason.column].any()}
    chosen = choose_first(ordered, sets)
    masks = load_masks(competition, path, {id: samples[id].image for id in chosen})
    of_image = dict(iter(table[table.id.isin(chosen.keys())].groupby("id", sort=False)))
    items = (
        GalleryItem(
            id=id,
            image=samples[id].image,
            group=samples[id].group,
            predicted=masks[id],
            other=_marks(masks[id], of_image[id], competition.num_classes),
            notes=_notes(of_image[id], competition.classes),
            sets=chosen[id],
            attributes=attributes.get(id, {}),
        )
        for id in chosen
    )
    reasons = table[[reason.column for reason in REASONS]].max(axis=1)
    return Look(
        name=f"submission-{submission_name(path)}",
        title=submission_name(path),
        kind="a submission, without ground truth",
        headline=Headline(
            "Masks that stand out clearly",
            f"{(reasons >= CLEAR).sum():,}",
            (
                f"of {len(table):,}: at least {format_percent(CLEAR)} of each is unlike what is usual in this file.",
                "Each mask is compared with its group and with images of the same properties. The true masks are not "
                "known, so look at the images: some stand out for a good reason.",
            ),
        ),
        findings=Findings("Why", ("reason", "masks", "clearly"), tuple(_count_reasons(table))),
        facts_title="The file",
        facts=tuple(list_facts(path, table, rows_missing)),
        first_title="The most suspicious masks",
        shown=describe_choice(len(chosen), len(ordered), "the most suspicious"),
        items=tuple(items),
        order_label="most suspicious first",
        views=tuple(list_marked_views("mask")),
    )


def _ids_with(table: pd.DataFrame, column: str) -> list[str]:
    """Return the ids of the images with a reason, the strongest first."""
    found = table[table[column] > 0].sort_values(column, ascending=False, kind="stable")
    return list(dict.fromkeys(found.id))


def _marks(masks: MaskLoader, rows: pd.DataFrame, num_classes: int) -> MaskLoader | None:
    """Return what to mark in an image: pieces and holes where they are a reason."""
    flags = [
        [bool((rows[column][rows.class_index == number] > 0).any()) for number in range(num_classes)]
        for column in ("stray", "hollow")
    ]
    return partial(mark_parts, masks, *flags) if any(map(any, flags)) else None


def _notes(rows: pd.DataFrame, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the reasons of all masks of an image, the most suspicious mask first; without one, the model's doubt."""
    found: list[str] = []
    for _, row in rows.iterrows():
        found += describe_reasons(row, classes[row.class_index] if classes else "").values()
    doubt = rows.doubt.max()
    return tuple(found) or (() if pd.isna(doubt) else (f"the model expects to lose {doubt:.3f} Dice",))


def _count_reasons(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    counts = [
        (reason.name, (table[reason.column] > 0).sum(), (table[reason.column] >= CLEAR).sum()) for reason in REASONS
    ]
    return [(name, f"{masks:,}", f"{clear:,}") for name, masks, clear in counts if masks]


def list_facts(path: Path, table: pd.DataFrame, rows_missing: int) -> list[tuple[str, str]]:
    """List what is in the file and how it was made, as (name, value)."""
    try:
        made = json.loads(submission_metadata(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        made = {}
    covered = (table.area / (table.height * table.width)).mean()
    several, doubt = (table.pieces > 1).sum(), table.doubt.mean()
    facts = [
        ("Masks", f"{len(table):,} of {table.id.nunique():,} images, {(table.area == 0).sum():,} of them empty"),
        ("Missing", f"{rows_missing:,} rows, so Kaggle will refuse the file" if rows_missing else ""),
        ("Filled", f"{len(made.get('filled') or ()):,} images that cannot be read" if made.get("filled") else ""),
        ("Area", f"{format_percent(covered)} of an image on average"),
        ("Pieces", f"{several:,} masks have several"),
        (
            "Doubt",
            "not known: only make predict writes it"
            if pd.isna(doubt)
            else f"{doubt:.4f} Dice: what the model expects to lose on average",
        ),
        ("Recipe", str(made.get("recipe", ""))),
        ("Threshold", ", ".join(f"{value:.3f}" for value in made.get("threshold") or ())),
        ("Commit", str(made.get("commit", ""))),
    ]
    return [(name, value) for name, value in facts if value]


def submission_name(path: Path) -> str:
    """Return the name of a file without .csv or .csv.gz."""
    return submission_metadata(path).stem
