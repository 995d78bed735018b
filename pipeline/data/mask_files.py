"""Find the mask files that belong to an image."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.competition.files import is_pattern, template_fields
from pipeline.data.patterns import FoundFile, find_files
from pipeline.errors import UserError
from pipeline.paths import competition_toml


class MaskFiles:
    """Mask files by the fields that they share with the image."""

    def __init__(self, competition: Competition, files: Sequence[FoundFile], fields: Sequence[str]) -> None:
        self.fields = fields
        self.by_key: defaultdict[tuple[str, ...], list[tuple[int, Path]]] = defaultdict(list)
        for file in files:
            name = file.fields.get("class")
            if name is not None and name not in competition.classes:
                what = f"is of the class {name!r}, which is not one of {', '.join(competition.classes)}"
                raise UserError(file.path, what, "add it to classes, or remove the file")
            index = competition.classes.index(name) if name is not None else 0
            self.by_key[self._key(file.fields)].append((index, file.path))

    def of(self, file: FoundFile) -> tuple[tuple[int, Path], ...]:
        """Return (index of the class, mask file) of an image."""
        return tuple(self.by_key.get(self._key(file.fields), ()))

    def _key(self, fields: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(fields[name] for name in self.fields)


class NamedMaskFiles:
    """Mask files in a folder, named after the image: its stem and one of the suffixes."""

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        self.folder = folder
        self.suffixes = suffixes
        # List the folder once: one look-up per name is slow on network disks.
        self.present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def of(self, file: FoundFile) -> tuple[tuple[int, Path], ...]:
        """Return (index of the class, mask file) of an image."""
        names = (file.path.stem + suffix for suffix in self.suffixes)
        name = next((name for name in names if name in self.present), None)
        return ((0, self.folder / name),) if name else ()


def find_masks(competition: Competition, data: Path, val: bool) -> MaskFiles | NamedMaskFiles | None:
    """Find the mask files of the training images, or of those of the val folder; None if labels are rows of a CSV.

    Raises:
        UserError: a file is of an unknown class, or the paths of masks share no field with those of images.
    """
    place = competition.masks.val if val else competition.masks.train
    if place is None:
        return None
    if not is_pattern(place):
        return NamedMaskFiles(data / place, competition.masks.suffixes)
    fields = [field for field in template_fields(place) if field != "class"]
    known = [*template_fields(competition.images.val or "" if val else competition.images.train), "id", "stem", "name"]
    shared = [field for field in dict.fromkeys(fields) if field in known]
    if not shared:
        part = "val" if val else "train"
        what = f"masks.{part} = {place!r} shares no field with images.{part}"
        raise UserError(
            competition_toml(competition.name), what, f"use the same {{field}} in images.{part} and masks.{part}"
        )
    return MaskFiles(competition, find_files(data, place), shared)
