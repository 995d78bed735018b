"""Group the slices of volumes: neighbors of a slice, or chosen slices, are the channels of an image (2.5D)."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.competition.files import SlicesConfig, template_fields
from pipeline.data.patterns import FoundFile
from pipeline.errors import UserError

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


class Stack(NamedTuple):
    """The slices of one image."""

    slices: tuple[Path, ...]
    """One file per channel."""
    volume: str
    """The values of the other fields of the path."""
    depth: int = 0
    """Number of the slice in the volume, from 0."""


def stack_slices(config: SlicesConfig, place: str, files: Sequence[FoundFile]) -> dict[Path, Stack]:
    """Find the channels of each image.

    Args:
        config: which slices are channels.
        place: the pattern of their paths, such as ``images.train``.
        files: all slices.

    Returns:
        Path -> slices of the image. With ``offsets`` every file is a key, with ``values`` the middle one of the chosen
        slices.

    Raises:
        UserError: a volume lacks a chosen slice, has one twice, or does not number its slices.
    """
    others = [field for field in dict.fromkeys(template_fields(place)) if field != config.field]
    volumes: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for file in files:
        slices, number = volumes["/".join(file.fields[field] for field in others)], file.fields[config.field]
        if number in slices:
            what = f"is the same slice as {slices[number].name}"
            raise UserError(file.path, what, f"add a field to {place} that tells them apart")
        slices[number] = file.path
    stacks = {}
    for volume, slices in volumes.items():
        if config.values:
            if missing := [value for value in config.values if value not in slices]:
                folder = next(iter(slices.values())).parent
                raise UserError(folder, f"has no slice {missing[0]}", "download it again, or correct images.slices")
            chosen = tuple(slices[value] for value in config.values)
            stacks[chosen[len(chosen) // 2]] = Stack(chosen, volume)
            continue
        for number, path in slices.items():
            if not _NUMBER.fullmatch(number):
                what = f"has {number!r} as {config.field}, which is no number that tells the order of slices"
                raise UserError(path, what, f"correct {place}, or rename the files")
        ordered = [slices[number] for number in sorted(slices, key=float)]
        for index, path in enumerate(ordered):
            near = [ordered[min(max(index + offset, 0), len(ordered) - 1)] for offset in config.offsets]
            stacks[path] = Stack(tuple(near), volume, index)
    return stacks
