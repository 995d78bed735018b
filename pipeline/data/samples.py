"""Find the images of a competition in its data folder, and where their labels are."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.competition import Competition
from pipeline.competition.files import is_pattern
from pipeline.data.groups import SampleGroups
from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.mask_files import find_masks
from pipeline.data.patterns import fill_key, find_files
from pipeline.data.row_format import submission_format, train_format
from pipeline.data.slices import Stack, stack_slices
from pipeline.data.windows import Block
from pipeline.errors import UserError
from pipeline.paths import competition_toml, partial_sample

log = logging.getLogger(__name__)

_CARVANA_IMAGES = 4070
"""Training images of a fold of Carvana's full data."""

RowKey = tuple[str, int]
"""(id, class index). Unique per row, except for instance rows."""


@dataclass(frozen=True)
class Sample:
    """One image and where its labels are."""

    id: str
    """The id in the competition's CSV files. Ids of a val folder begin with the folder's name."""
    image: Path
    group: str
    """Samples of one group always belong to the same fold."""
    masks: tuple[tuple[int, Path], ...] = ()
    """(index of the class, mask file), if labels are mask files. An image may have several, one per object."""
    rows: tuple[tuple[int, str], ...] | None = None
    """(index of the class, RLE), if labels are rows of a CSV; empty for an image without objects."""
    stratum: str = ""
    """Value of the stratum column."""
    val: bool = False
    """Whether the competition itself chose this sample for validation."""
    replacement: Path | None = None
    """Another file of a test image, for the case that `image` is broken."""
    slices: tuple[Path, ...] = ()
    """One file per channel, if the channels are slices of a volume; `image` is one of them."""
    volume: str = ""
    """The volume that it is a slice of."""
    depth: int = 0
    """Number of the slice in its volume, from 0."""
    block: Block | None = None
    """The block of the image, if ``windows.blocks`` divides it; None for the whole image."""

    @property
    def has_label(self) -> bool:
        """Whether there are mask files, or rows of a CSV (perhaps none, for an image without objects)."""
        return bool(self.masks) or self.rows is not None

    def replaced(self) -> "Sample":
        """Return the same sample with `replacement` as its image."""
        assert self.replacement is not None
        return replace(self, image=self.replacement, replacement=None)


def load_training_samples(
    competition: Competition, data: Path, *, require_masks: bool = True, blocks: bool = True
) -> list[Sample]:
    """List all training images with their labels, sorted by path, then those of the val folder.

    Args:
        competition: its folders and files are used.
        data: the data folder.
        require_masks: if False, an image without a mask file is listed without a label instead of raising.
        blocks: list the blocks of ``windows.blocks``, each a group of its own, instead of the images.

    Raises:
        UserError: a folder is missing or has no image, an image has no mask, or a name has no group.
    """
    samples = _list_samples(competition, data, competition.images.train)
    if competition.images.val is not None:
        samples += _list_samples(competition, data, competition.images.val, val=True)
    if competition.masks.train is None:
        samples = _add_csv_rows(competition, data, samples)
    for sample in samples:
        if require_masks and not sample.has_label:
            what = f"has no mask {describe_masks(competition, sample)}"
            raise UserError(sample.image, what, "add it; `make check` lists everything that is missing")
    if competition.windows is None or competition.windows.blocks == (1, 1) or not blocks:
        return samples
    columns, rows = competition.windows.blocks
    parts = [Block(column, row, columns, rows) for row in range(rows) for column in range(columns)]
    return [
        replace(sample, id=f"{sample.id}#{block}", group=f"{sample.group}#{block}", block=block)
        for sample in samples
        for block in parts
    ]


def count_fold_images(competition: Competition, data: Path) -> int:
    """Return the approximate number of training images (or blocks of them) of a fold, without the table of folds.

    Without a data folder, that of Carvana's full data is assumed, with a warning.

    Raises:
        UserError: see `load_training_samples`.
    """
    if not data.is_dir():
        log.warning("%s: no such folder; assumes the %d images of a fold of Carvana's full data", data, _CARVANA_IMAGES)
        return _CARVANA_IMAGES
    samples = load_training_samples(competition, data, require_masks=False)
    return len(samples) - (sum(sample.val for sample in samples) or len(samples) // competition.folds)


def load_test_samples(competition: Competition, data: Path) -> list[Sample]:
    """List all test images, sorted by path.

    The ``[download]`` table may name a file that replaces a broken image. Where it lies in the data folder under its
    own name, because the archives were unpacked by hand, the sample has it as its replacement.

    Raises:
        UserError: the competition has no test folder, or it is missing or has no image.
    """
    if competition.images.test is None:
        raise UserError(competition_toml(competition.name), "has no images.test", "set it to the folder to predict")
    samples = _list_samples(competition, data, competition.images.test, test=True)
    files = competition.download.files if competition.download else ()
    replacements = {
        data / file.to: data / file.name
        for file in files
        if file.name != file.to and Path(file.name).suffix == Path(file.to).suffix and (data / file.name).is_file()
    }
    return [replace(sample, replacement=replacements.get(sample.image)) for sample in samples]


def describe_masks(competition: Competition, sample: Sample) -> str:
    """Return the names of the mask file that an image should have."""
    place = str(competition.masks.train)
    if is_pattern(place):
        return place
    return " or ".join(sample.image.stem + suffix for suffix in competition.masks.suffixes)


def read_submission_keys(competition: Competition, data: Path, sample_csv: Path | None = None) -> list[RowKey] | None:
    """Read the (id, class) of each row that a submission must have, in the order of the sample submission.

    Args:
        competition: its sample submission and columns are used.
        data: the data folder.
        sample_csv: another file to take them from.

    Returns:
        Unique keys; None if the competition has no sample submission or the file does not exist.

    Raises:
        UserError: the file cannot be read, or a key occurs twice although a row is not an instance.
    """
    if sample_csv is None:
        if competition.csv.sample is None or not (data / competition.csv.sample).exists():
            return None
        sample_csv = data / competition.csv.sample
    keys: dict[RowKey, None] = {}
    format = submission_format(competition)
    for row in read_mask_csv(sample_csv, format):
        if row.key in keys and competition.csv.rows != "instance":
            raise UserError(sample_csv, f"line {row.line} repeats {format.describe_key(*row.key)}", "download it again")
        keys[row.key] = None
    return list(keys)


def load_submission_samples(competition: Competition, data: Path) -> list[Sample]:
    """List the test images in the order of the sample submission; all of them if there is no such file.

    Raises:
        UserError: the sample submission cannot be read, or it and the test images disagree.
    """
    samples = load_test_samples(competition, data)
    keys = read_submission_keys(competition, data)
    if keys is None:
        warn_if_incomplete(competition, data, len(samples))
        return samples
    by_id = {sample.id: sample for sample in samples}
    ids = list(dict.fromkeys(id for id, _ in keys))
    unknown = [id for id in ids if id not in by_id]
    if unknown:
        what = f"has {len(unknown)} ids without an image in {samples[0].image.parent}, such as {unknown[0]}"
        fix = "download the missing images, or use the sample submission of this data"
        raise UserError(data / str(competition.csv.sample), what, fix)
    require_all_named(competition, data, ids, samples)
    warn_if_incomplete(competition, data, len(ids))
    return [by_id[id] for id in ids]


def warn_if_incomplete(competition: Competition, data: Path, images: int) -> None:
    """Warn if a submission of so many images is not that of the complete test set; practice data is smaller."""
    complete = competition.images.test_count
    if complete is not None and images != complete and not partial_sample(data).exists():
        log.warning("%s: has %s of the %s test images (images.test_count)", data, f"{images:,}", f"{complete:,}")


def require_all_named(competition: Competition, data: Path, ids: Iterable[str], samples: Sequence[Sample]) -> None:
    """Refuse a sample submission that lacks test images: a truncated file would give a short submission.

    Not in a folder that `pipeline.paths.partial_sample` marks, whose sample submission names a part on purpose. In a
    code competition it is a warning, because the mounted test set may hold more than the sample submission names.

    Args:
        competition: names the sample submission.
        data: the data folder.
        ids: the ids of the sample submission.
        samples: the test images.

    Raises:
        UserError: a test image has no row.
    """
    if partial_sample(data).exists():
        return
    named = set(ids)
    left_out = [sample.id for sample in samples if sample.id not in named]
    if not left_out:
        return
    path = data / str(competition.csv.sample)
    what = f"has no row for {len(left_out):,} of {len(samples):,} test images, such as {left_out[0]}"
    if competition.notebook is not None:
        log.warning("%s: %s; only the images that it names are predicted", path, what)
        return
    raise UserError(path, what, "download it again; if it is complete, move the images that it lacks to another folder")


def _list_samples(
    competition: Competition, data: Path, place: str, *, val: bool = False, test: bool = False
) -> list[Sample]:
    try:
        files = find_files(data, place, competition.images.suffixes)
    except UserError as error:
        raise UserError(error.where, error.what, f"{_download(competition)}{error.fix}") from None
    if not files:
        known = "" if is_pattern(place) else f" ({', '.join(competition.images.suffixes)})"
        raise UserError(data / place, f"has no image{known}", f"{_download(competition)}set DATA to the data folder")
    masks = None if test else find_masks(competition, data, val)
    groups = SampleGroups(competition, data)
    stacks: dict[Path, Stack] = {}
    if competition.images.slices:
        stacks = stack_slices(competition.images.slices, place, files)
        files = [file for file in files if file.path in stacks]
    samples = []
    for file in files:
        id = fill_key(competition, competition.images.id, file, "images.id")
        samples.append(
            Sample(
                # Both folders may number their images from 1.
                id=f"{place}/{id}" if val else id,
                image=file.path,
                group=groups.group(file, id, place),
                masks=masks.of(file) if masks else (),
                stratum=groups.stratum(file, id) if not test else "",
                val=val,
                **(stacks[file.path]._asdict() if stacks else {}),
            )
        )
    return samples


def _download(competition: Competition) -> str:
    """Return the first half of what to do about missing data; empty if Kaggle does not offer it."""
    if competition.slug is None or competition.download is None:
        return ""
    return f"run `make download COMPETITION={competition.name}`, or "


def _add_csv_rows(competition: Competition, data: Path, samples: Sequence[Sample]) -> list[Sample]:
    """Add the rows of ``csv.train``. Images without a row, or with an empty one, have no objects.

    Raises:
        UserError: the file cannot be read, or has a row without an image.
    """
    path = data / str(competition.csv.train)
    rows: dict[str, list[tuple[int, str]]] = {sample.id: [] for sample in samples}
    for row in read_mask_csv(path, train_format(competition), extra_columns=True):
        if row.id not in rows:
            what = f"line {row.line} has the id {row.id!r}, which is no image"
            raise UserError(path, what, "download the missing images, or correct images.id or csv.train_columns")
        if row.rle not in ("", competition.csv.empty):
            rows[row.id].append((row.class_index, row.rle))
    return [replace(sample, rows=tuple(rows[sample.id])) for sample in samples]
