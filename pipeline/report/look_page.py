"""What the pages of a submission, of two submissions and of two recipes have in common: parts and choice of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.paths import report_folder
from pipeline.report.charts import Chart
from pipeline.report.gallery import MAX_EMBEDDED, GalleryItem, build_gallery
from pipeline.report.page import write_page
from pipeline.report.views import View


@dataclass(frozen=True)
class Headline:
    """The figure at the top."""

    label: str
    value: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """A short table beside the headline."""

    title: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Look:
    """All that a page shows."""

    name: str
    """Name of its folder in ``reports/``."""
    title: str
    kind: str
    """For the line above the title."""
    headline: Headline
    findings: Findings
    facts_title: str
    facts: tuple[tuple[str, str], ...]
    first_title: str
    """Heading of the first images."""
    shown: str
    """Which images the page has."""
    items: tuple[GalleryItem, ...]
    order_label: str
    views: tuple[View, ...]
    charts: tuple[Chart, ...] = ()
    score_label: str = "score"


def write_look(look: Look, competition: Competition) -> Path:
    """Write ``reports/<name>/index.html`` and return its path; see `build_gallery` for errors."""
    folder = report_folder(look.name)
    gallery = build_gallery(
        look.items,
        folder,
        classes=competition.classes,
        views=look.views,
        score_label=look.score_label,
        order_label=look.order_label,
    )
    path = folder / "index.html"
    write_page(path, "look.html", competition=competition, gallery=gallery, **vars(look))
    return path


def choose_first(
    ordered: Sequence[str], sets: Mapping[str, Sequence[str]], most: int = MAX_EMBEDDED
) -> dict[str, tuple[str, ...]]:
    """Choose the images of a page: the first ones, the first of each set, and some at random to compare them with.

    Args:
        ordered: the ids of all images, the most interesting first.
        sets: name of a set -> its ids, likewise.
        most: most images.

    Returns:
        Id -> names of its sets, in the order of `ordered`; an image that was chosen at random is in "Random".
    """
    chosen = dict.fromkeys(ordered[: most * 7 // 10])
    for ids in sets.values():
        chosen |= dict.fromkeys(ids[: most // 5 // max(1, len(sets))])
    chosen = dict.fromkeys([*chosen][: most * 9 // 10])
    rest = [id for id in ordered if id not in chosen]
    random = np.random.default_rng(0).permutation(len(rest))[: most - len(chosen)]
    sampled = {rest[number] for number in random} if len(ordered) > most else set()
    members = {name: set(ids) for name, ids in sets.items()} | {"Random": sampled}
    if len(ordered) <= most:
        chosen = dict.fromkeys(ordered)
    return {
        id: tuple(name for name, ids in members.items() if id in ids) for id in ordered if id in chosen or id in sampled
    }


def describe_choice(chosen: int, total: int, first: str) -> str:
    """Say which images a page has: all, or the first ones and some at random."""
    if chosen == total:
        return f"All {total:,} images, {first} first."
    return f"{chosen:,} of {total:,} images, {first} first; those in “Random” are there to compare with."
