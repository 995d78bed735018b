"""Write the page of two submissions: where they differ most, at least one of them is wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.data.samples import Sample
from pipeline.report.charts import draw_histogram
from pipeline.report.gallery import GalleryItem
from pipeline.report.look_page import Findings, Headline, Look, choose_first, describe_choice
from pipeline.report.masks import load_masks
from pipeline.report.page import format_percent
from pipeline.report.submission_page import submission_name
from pipeline.report.views import MaskNames, list_views

APART = 0.98
"""Masks with a Dice below this are counted as different."""
LIMITS = (0.5, 0.9, 0.95, 0.98, 0.99, 0.995)


def look_at_submissions(
    competition: Competition,
    paths: Sequence[Path],
    table: pd.DataFrame,
    samples: Mapping[str, Sample],
    attributes: Mapping[str, Mapping[str, str]],
) -> Look:
    """Describe the difference of two submissions.

    Args:
        competition: the competition.
        paths: both submissions.
        table: from `pipeline.submission.agreement.compare_submissions`.
        samples: id -> test image.
        attributes: id -> name -> value.
    """
    names = [submission_name(path) for path in paths]
    labels = names if names[0] != names[1] else [str(path) for path in paths]
    columns = {"dice": ("dice", "mean"), "area": ("area", "sum"), "other": ("other_area", "sum")}
    images = table.groupby("id", sort=False).agg(**columns).sort_values("dice", kind="stable")
    chosen = choose_first(list(images.index), {"Differ clearly": list(images.index[images.dice < APART])})
    masks = [load_masks(competition, path, {id: samples[id].image for id in chosen}) for path in paths]
    items = (
        GalleryItem(
            id=id,
            image=samples[id].image,
            group=samples[id].group,
            score=float(images.dice[id]),
            predicted=masks[0][id],
            other=masks[1][id],
            notes=(describe_areas(images.area[id], images.other[id], labels[1]),),
            sets=chosen[id],
            attributes=attributes.get(id, {}),
        )
        for id in chosen
    )
    dice, area, other = images.dice, int(images.area.sum()), int(images.other.sum())
    chart = draw_histogram(
        "Dice between the two masks of an image",
        dice.to_numpy(),
        "Dice between them",
        "Where they differ, at least one of them is wrong; where they agree, both may be.",
        float(dice.mean()),
    )
    counts = [(f"below {limit:g}", f"{(dice < limit).sum():,}") for limit in LIMITS]
    return Look(
        name=f"submission-{names[0]}-vs-{names[1]}",
        title=f"{labels[0]} and {labels[1]}",
        kind="two submissions",
        headline=Headline(
            "mean Dice between them",
            f"{dice.mean():.5f}",
            (
                f"The masks of {(dice < APART).sum():,} of {len(dice):,} images differ clearly (Dice below {APART:g}), "
                f"those of {(dice == 1).sum():,} are the same.",
                f"In total, {describe_areas(area, other, labels[1])}.",
            ),
        ),
        findings=Findings("How far apart", ("Dice between them", "images"), tuple(counts)),
        facts_title="The files",
        facts=(("First", str(paths[0])), ("Second", str(paths[1])), ("Lowest", f"{dice.iloc[0]:.5f}, {dice.index[0]}")),
        first_title="Where they differ most",
        shown=describe_choice(len(chosen), len(images), "those that differ most"),
        items=tuple(items),
        order_label="most different first",
        views=tuple(list_views(MaskNames(predicted=labels[0], other=labels[1]), truth=False, other=True)),
        charts=(chart,),
        score_label="Dice between them",
    )


def describe_areas(area: int, other: int, name: str) -> str:
    """Say how much larger the second of two masks is, which has a name."""
    if area == other:
        return "equal areas" if area else "no masks"
    if not area:
        return f"only {name} has a mask"
    if not other:
        return f"{name} has no mask"
    return f"{name} is {format_percent(abs(other / area - 1))} {'larger' if other > area else 'smaller'}"
