"""Find the images and masks of a competition in its data folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.mask_csv import read_mask_csv
from pipeline.errors import UserError
from pipeline.paths import competition_toml


@dataclass(frozen=True)
class Sample:
    """One image and, if there is one, its mask."""

    id: str
    """The id in the competition's CSV files. Ids of a val folder begin with the folder's name."""
    image: Path
    mask: Path | None
    group: str
    """Samples of one group always belong to the same fold."""
    val: bool = False
    """Whether the competition itself chose this sample for validation."""


def load_training_samples(competition: Competition, data: Path, *, require_masks: bool = True) -> list[Sample]:
    """List all training images with their masks, sorted by id, then those of the val folder.

    Args:
        competition: names the folders.
        data: the data folder.
        require_masks: if False, samples without a mask have ``mask=None`` instead of raising.

    Raises:
        UserError: a folder is missing or has no image, an image has no mask, or a name has no group.
    """
    samples = _list_samples(competition, data, competition.images.train, competition.masks.train)
    if competition.images.val is not None:
        samples += _list_samples(competition, data, competition.images.val, competition.masks.val, val=True)
    for sample in samples:
        if require_masks and sample.mask is None:
            names = " or ".join(sample.image.stem + suffix for suffix in competition.masks.suffixes)
            raise UserError(
                sample.image, f"has no mask {names}", "add it; `make check` lists everything that is missing"
            )
    return samples


def load_test_samples(competition: Competition, data: Path) -> list[Sample]:
    """List all test images, sorted by id.

    Raises:
        UserError: the competition has no test folder, or it is missing or has no image.
    """
    if competition.images.test is None:
        raise UserError(competition_toml(competition.name), "has no images.test", "set it to the folder to predict")
    return _list_samples(competition, data, competition.images.test, None)


def read_submission_ids(competition: Competition, data: Path, sample_csv: Path | None = None) -> list[str] | None:
    """Read the ids that a submission must have, in the order of the sample submission.

    Args:
        competition: names the sample submission and its columns.
        data: the data folder.
        sample_csv: another file to take the ids from.

    Returns:
        The ids; None if the competition has no sample submission or the file does not exist.

    Raises:
        UserError: the file cannot be read, or an id occurs twice.
    """
    if sample_csv is None:
        if competition.csv.sample is None or not (data / competition.csv.sample).exists():
            return None
        sample_csv = data / competition.csv.sample
    ids: dict[str, None] = {}
    for row in read_mask_csv(sample_csv, competition.csv.columns):
        if row.id in ids:
            raise UserError(sample_csv, f"line {row.line} repeats the id {row.id}", "download it again")
        ids[row.id] = None
    return list(ids)


def load_submission_samples(competition: Competition, data: Path) -> list[Sample]:
    """List the test images in the order of the sample submission; all of them if there is no such file.

    Raises:
        UserError: the sample submission cannot be read or names an image that does not exist.
    """
    samples = load_test_samples(competition, data)
    ids = read_submission_ids(competition, data)
    if ids is None:
        return samples
    by_id = {sample.id: sample for sample in samples}
    unknown = [id for id in ids if id not in by_id]
    if unknown:
        what = f"has {len(unknown)} ids without an image in {samples[0].image.parent}, such as {unknown[0]}"
        fix = "download the missing images, or use the sample submission of this data"
        raise UserError(data / str(competition.csv.sample), what, fix)
    return [by_id[id] for id in ids]


def _list_samples(
    competition: Competition, data: Path, images: str, masks: str | None, *, val: bool = False
) -> list[Sample]:
    suffixes = competition.images.suffixes
    pattern = re.compile(competition.groups.pattern) if competition.groups else None
    try:
        paths = sorted(path for path in (data / images).iterdir() if path.suffix.lower() in suffixes)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(data / images, "no such folder", f"set DATA to the folder that contains {images}/") from None
    if not paths:
        raise UserError(data / images, f"has no image ({', '.join(suffixes)})", "set DATA to the data folder")
    # List the folder of masks once: one look-up per name is slow on network disks.
    present = {path.name for path in (data / masks).iterdir()} if masks and (data / masks).is_dir() else set()
    samples = []
    for path in paths:
        mask = next((path.stem + end for end in competition.masks.suffixes if path.stem + end in present), None)
        match = pattern.match(path.stem) if pattern else None
        if pattern and not match:
            toml = competition_toml(competition.name)
            raise UserError(path, "its name does not match groups.pattern", f"rename it, or correct {toml}")
        name = path.name if competition.csv.id == "name" else path.stem
        samples.append(
            Sample(
                # Both folders may number their images from 1.
                id=f"{images}/{name}" if val else name,
                image=path,
                mask=data / masks / mask if masks and mask else None,
                group=match.group(1) if match else f"{images}/{path.name}",
                val=val,
            )
        )
    return samples
