"""Find out where the images and masks of a data folder are, and how their names belong together."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.competition.files import is_pattern
from pipeline.data.images import IMAGE_SUFFIXES
from pipeline.errors import UserError

_MANY_FOLDERS = 8
"""A folder with this many folders of images has a folder per image."""
_MASK_WORDS = re.compile(r"mask|label|annot|segm|truth|(^|[_/])gt([_/]|$)", re.IGNORECASE)
_COMMON = 0.9
"""Fraction of the files of which a property is taken as a rule."""


@dataclass(frozen=True)
class Place:
    """A folder, or a pattern of paths, with its images."""

    path: str
    """As in the ``[images]`` and ``[masks]`` tables."""
    files: tuple[Path, ...]

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of its files, most common first."""
        return [suffix for suffix, _ in Counter(file.suffix.lower() for file in self.files).most_common()]

    @property
    def holds_masks(self) -> bool:
        """Whether its path contains a word for masks."""
        return bool(_MASK_WORDS.search(self.path))

    def is_for(self, part: str) -> bool:
        """Return whether its name has a word such as "train", "test" or "val"."""
        return part in self.path.lower()


@dataclass(frozen=True)
class Places:
    """The places of the training images, their masks and the test images."""

    train: Place
    masks: Place | None
    test: Place | None
    others: tuple[Place, ...]


def find_places(data: Path) -> Places:
    """Assign a role to every folder of images below the data folder, by its name.

    Raises:
        UserError: there is no image, or no folder that can hold training images.
    """
    places = _list_places(data)
    if not places:
        raise UserError(data, f"has no image ({', '.join(IMAGE_SUFFIXES)})", "set DATA to the folder of the download")
    images = [place for place in places if not place.holds_masks]
    train = _choose(images, "train") or _choose([place for place in images if not place.is_for("test")], "")
    if train is None:
        found = ", ".join(place.path for place in places)
        raise UserError(data, f"no folder looks like training images (found: {found})", "write the TOML file by hand")
    test = _choose([place for place in images if place != train], "test")
    candidates = [place for place in places if place.holds_masks and not place.is_for("test")]
    masks = _choose(candidates, "train") or _choose(candidates, "")
    roles = (train, masks, test)
    return Places(*roles, tuple(place for place in places if place not in roles))


def guess_mask_suffixes(train: Place, masks: Place) -> list[str]:
    """Return what follows an image's stem in the names of its masks, most common first; empty if nothing does.

    Only for masks in a folder, one per image.
    """
    names = [file.name for file in masks.files]
    by_prefix: defaultdict[str, list[str]] = defaultdict(list)
    lengths = sorted({len(file.stem) for file in train.files}, reverse=True)
    for name in names:
        for length in lengths:
            by_prefix[name[:length]].append(name[length:])
    found = Counter(suffix for file in train.files for suffix in by_prefix.get(file.stem, ())[:1])
    return [suffix for suffix, count in found.most_common() if count > 0.01 * len(train.files)]


def guess_group_pattern(stems: Sequence[str]) -> tuple[str, int | None] | None:
    """Guess groups from names that end in a number: ``car7_01``, ``car7_02``.

    Returns:
        The regular expression of ``groups.pattern``, and the size of a group if all have the same; None if most groups
        would have a single image.
    """
    matches = [match for stem in stems if (match := re.fullmatch(r"(.+)[_-][0-9]+", stem))]
    sizes = Counter(match[1] for match in matches)
    if len(matches) < _COMMON * len(stems) or len(matches) < 2 * len(sizes) or len(sizes) < 2:
        return None
    size = set(sizes.values())
    return "^(.+)[_-][0-9]+$", size.pop() if len(size) == 1 else None


def _choose(places: Sequence[Place], word: str) -> Place | None:
    """Return the place with a word in its name; of several the one with the shortest path."""
    fitting = [place for place in places if place.is_for(word)]
    return min(fitting, key=lambda place: (len(place.path), place.path), default=None)


def _list_places(data: Path) -> list[Place]:
    files = [path.relative_to(data) for path in sorted(data.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    children: defaultdict[Path, set[str]] = defaultdict(set)
    for file in files:
        for parent in list(file.parents)[:-1]:
            children[parent.parent].add(parent.name)
    grouped: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        grouped[_generalize(file, children)].append(data / file)
    return [Place(path, tuple(found)) for path, found in grouped.items()]


def _generalize(file: Path, children: Mapping[Path, set[str]]) -> str:
    """Return the folder of a file, or a pattern if one of its folders is one of many."""
    parts, parent = [], Path()
    for name in file.parts[:-1]:
        many = len(children[parent]) >= _MANY_FOLDERS
        parts.append(("*" if "{id}" in parts else "{id}") if many else name)
        parent /= name
    place = "/".join(parts) or "."
    return f"{place}/*{file.suffix}" if is_pattern(place) else place
