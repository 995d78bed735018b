"""Write a first TOML file for a new competition: guesses with their evidence, and what could not be told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tomli_w

from pipeline.competition.files import is_pattern
from pipeline.data.guess.places import Place, Places, find_places, guess_group_pattern, guess_mask_suffixes
from pipeline.data.guess.tables import MaskTable, find_mask_tables, guess_rle_format
from pipeline.data.images import image_size, read_bytes
from pipeline.data.masks import Shape, read_mask_values
from pipeline.data.readers import decode_values
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.paths import competition_toml

_TRIED_FILES = 40


@dataclass
class Draft:
    """A TOML file in the making."""

    lines: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Facts that the files do not contain, as sentences."""

    def add(self, key: str, value: object, why: str = "") -> None:
        """Add ``key = value``, with a comment."""
        text = tomli_w.dumps({key: value}).strip() if not isinstance(value, dict) else f"{key} = {_inline(value)}"
        if isinstance(value, list | tuple):
            text = f"{key} = [{', '.join(_literal(each) for each in value)}]"
        self.lines.append(f"{text}{' ' * max(1, 29 - len(text))}# {why}" if why else text)

    def table(self, name: str) -> None:
        """Begin a table."""
        self.lines += ["", f"[{name}]"]

    @property
    def text(self) -> str:
        """The file."""
        return "\n".join(self.lines) + "\n"


def draft_competition(name: str, data: Path) -> Draft:
    """Guess the TOML file of a competition from its data folder.

    Args:
        name: the name of the competition.
        data: the data folder, as downloaded and unpacked.

    Raises:
        UserError: no training images are found.
    """
    places = find_places(data)
    files = [*places.train.files, *(places.test.files if places.test else ())]
    tables = find_mask_tables(data, {file.stem for file in files}, {file.name for file in files})
    train, sample = _assign_tables(tables, places)
    draft = Draft([f"# First draft, guessed from {len(files):,} images and {len(tables)} CSV files. Check every line."])
    draft.lines.append('# slug = ""                   # the name in the address of the competition')
    draft.unknown.append("slug: the competition's name on Kaggle, needed to download and submit")
    draft.add("title", name)
    draft.add("folds", 5)
    rows = _rows(train, sample, places)
    draft.add("metric", "map_iou" if rows == "instance" else "dice", "not in the files: see the evaluation page")
    draft.unknown.append("metric: dice, iou, f_beta, map_iou or f_beta_iou; the evaluation page says which")
    classes = next((table.classes for table in (train, sample) if table and table.classes), ())
    if classes:
        draft.add("classes", list(classes))
        draft.lines.append("# exclusive = true           # if a pixel belongs to at most one class")
        draft.unknown.append("exclusive: whether classes may overlap")
    shapes = _image_shapes(places.train)
    _add_images(draft, places, sample or train, shapes)
    _add_masks(draft, places, train, rows)
    _add_groups(draft, places, train)
    _add_csv(draft, places, train, sample, rows, shapes)
    if rows == "instance":
        draft.table("instances")
        draft.add("split", "watershed", 'touching objects are divided; "components" leaves them together')
    return draft


def write_draft(name: str, data: Path) -> tuple[Path, list[str]]:
    """Write ``competitions/<name>.toml``.

    Returns:
        Its path, and the facts that the files do not contain, as sentences.

    Raises:
        UserError: the file exists, the name cannot be one, or no training images are found.
    """
    path = competition_toml(name)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UserError(f"'{name}'", "is not a name of a competition", "use letters, digits, '_', '-' and '.' only")
    if path.exists():
        raise UserError(path, "exists already", "choose another name, or delete it")
    draft = draft_competition(name, data)
    write_text(path, draft.text)
    return path, draft.unknown


def _assign_tables(tables: Sequence[MaskTable], places: Places) -> tuple[MaskTable | None, MaskTable | None]:
    """Return the table of labels and the sample submission."""
    trained = {name for file in places.train.files for name in (file.stem, file.name)}
    labels = [table for table in tables if sum(id in trained for id, *_ in table.rows) > len(table.rows) / 2]
    rest = [table for table in tables if table not in labels]
    named = [table for table in rest if "sample" in table.path.name.lower()]
    train = max(labels, key=lambda table: len(table.texts), default=None)
    return train, next(iter(named or rest), None)


def _rows(train: MaskTable | None, sample: MaskTable | None, places: Places) -> str:
    several_files = places.masks is not None and len(places.masks.files) > 1.5 * len(places.train.files)
    if (train and train.rows_are_objects) or (several_files and not (train or sample)):
        return "instance"
    return "class" if any(table and table.classes for table in (train, sample)) else "image"


def _image_shapes(place: Place) -> dict[str, Shape]:
    """Return id -> (height, width) of all images if few, else of some; ids with and without suffix."""
    shapes: dict[str, Shape] = {}
    step = max(1, len(place.files) // _TRIED_FILES)
    for file in place.files[::step]:
        try:
            shape = image_size(file)[::-1]
        except UserError:
            continue
        shapes[file.stem] = shapes[file.name] = (shape[0], shape[1])
    return shapes


def _add_images(draft: Draft, places: Places, table: MaskTable | None, shapes: dict[str, Shape]) -> None:
    draft.table("images")
    draft.add("train", places.train.path, f"{len(places.train.files):,} images")
    if places.test:
        draft.add("test", places.test.path, f"{len(places.test.files):,} images")
    else:
        draft.unknown.append("images.test: no folder looks like test images")
    for other in places.others:
        draft.lines.append(f"# also there: {other.path}, {len(other.files):,} images")
    if not is_pattern(places.train.path):
        draft.add("suffixes", places.train.suffixes)
    if table and table.with_suffix:
        draft.add("id", "{name}", f"as in {table.path.name}")
    if peak := _brightest(places.train):
        draft.add("range", [0, peak], "values that become 0 and 255; the highest one seen")
        draft.unknown.append("images.range: which values of deep images matter")
    if len(set(shapes.values())) == 1:
        height, width = next(iter(shapes.values()))
        draft.add("size", [width, height], f"of {len(shapes) // 2} images looked at")


def _brightest(place: Place) -> int:
    """Return the highest value of some images with more than 8 bits; 0 if there are none."""
    peak = 0
    for file in place.files[:: max(1, len(place.files) // _TRIED_FILES)]:
        try:
            values, _ = decode_values(read_bytes(file), file)
        except UserError:
            continue
        if values.dtype != np.uint8:
            peak = max(peak, int(values.max()))
    return peak


def _add_masks(draft: Draft, places: Places, train: MaskTable | None, rows: str) -> None:
    draft.table("masks")
    areas: list[float] = []
    if places.masks is None:
        empty = bool(train and (len(train.texts) < len(train.rows) or _images_without_row(train, places)))
    else:
        draft.add("train", places.masks.path, f"{len(places.masks.files):,} files")
        if not is_pattern(places.masks.path):
            suffixes = guess_mask_suffixes(places.train, places.masks)
            draft.add("suffixes", suffixes or [".png"])
            if not suffixes:
                draft.unknown.append("masks.suffixes: no mask has the name of an image")
        values: set[int] = set()
        for file in places.masks.files[:: max(1, len(places.masks.files) // _TRIED_FILES)]:
            try:
                mask = read_mask_values(file)
            except UserError:
                continue
            values |= set(np.unique(mask).tolist())
            areas.append(float((mask > 0).mean()))
        positive = next((value for value in (1, 255) if values <= {0, value}), "nonzero")
        draft.add("positive", positive, f"values seen: {', '.join(map(str, sorted(values)[:6]))}")
        empty = 0.0 in areas
    why = "an empty one was seen" if empty else "no empty one was seen"
    if rows == "instance" and not empty:
        empty, why = True, "an image without objects was not seen, but has no objects to list"
    draft.add("may_be_empty", empty, why)
    if areas and not empty:
        draft.add("area", [round(0.5 * min(areas), 3), min(1.0, round(1.5 * max(areas), 2))], "fraction of the image")
    if places.masks is None and train is None:
        draft.unknown.append("masks.train or csv.train: neither mask files nor run-length encoded labels were found")


def _images_without_row(train: MaskTable, places: Places) -> bool:
    labeled = {id for id, *_ in train.rows}
    return any(file.stem not in labeled and file.name not in labeled for file in places.train.files)


def _add_groups(draft: Draft, places: Places, train: MaskTable | None) -> None:
    guessed = guess_group_pattern([file.stem for file in places.train.files])
    if guessed and not is_pattern(places.train.path):
        pattern, size = guessed
        draft.table("groups")
        draft.add("pattern", pattern, "images of one object share the name but for the number")
        if size:
            draft.add("size", size)
        draft.unknown.append("groups: whether images with the same name but for the number show the same object")
        return
    hint = f"; {train.path.name} also has the columns {', '.join(train.others)}" if train and train.others else ""
    draft.unknown.append(f"groups: whether some images show the same object and must not be in two folds{hint}")


def _add_csv(
    draft: Draft,
    places: Places,
    train: MaskTable | None,
    sample: MaskTable | None,
    rows: str,
    shapes: dict[str, Shape],
) -> None:
    draft.table("csv")
    table = sample or train
    if table is None:
        draft.add("columns", {"id": "{id}", "rle": "{rle}"}, "no CSV was found")
        draft.add("order", "row")
        draft.unknown.append("csv: columns, order and offsets of the submission")
        return
    draft.add("columns", dict(table.columns), f"as in {table.path.name}")
    if rows != "image":
        draft.add("rows", rows)
    empty = next((found.empty for found in (train, sample) if found and found.empty), "")
    texts = [(text, shapes[id]) for id, text in (train.texts if train else ()) if id in shapes]
    texts = [(text, shape) for text, shape in texts if _fits(text, shape)]
    if texts:
        format, sure = guess_rle_format(texts, empty)
        draft.add("order", format.order, sure)
        if format.offsets != "absolute":
            draft.add("offsets", format.offsets, "starts do not rise")
        if format.base == 0:
            draft.add("base", 0, "a run starts at 0")
    else:
        draft.add("order", "column", "not in the files: most competitions number the pixels down the columns")
        draft.unknown.append("csv.order: there are no run-length encoded labels to tell it from")
    if empty:
        draft.add("empty", empty)
    if train:
        draft.add("train", train.path.name)
        if dict(train.columns) != dict(table.columns):
            draft.add("train_columns", dict(train.columns))
    if sample:
        draft.add("sample", sample.path.name)
    else:
        draft.unknown.append("csv.sample: no CSV lists the test images")
    if any("size" in column.lower() or "shape" in column.lower() for column in table.others):
        draft.unknown.append("csv.size: whether masks are submitted at another size than that of the images")


def _fits(text: str, shape: Shape) -> bool:
    """Return whether all runs of a row start in the image; otherwise the masks have another size."""
    return max(map(int, text.split()[::2])) <= shape[0] * shape[1]


def _inline(table: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{_key(key)} = {_literal(value)}" for key, value in table.items()) + " }"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _literal(key)


def _literal(value: object) -> str:
    return tomli_w.dumps({"v": value}).strip().removeprefix("v = ")
