"""Pseudo-labels: masks that a fold's own model predicted for unlabeled images, as further training samples.

They do not leak: a fold trains only on labels from a model that had held out the same validation images, on no copy of
these images, and on no image of their groups as far as names and tables tell them.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from pipeline.data.folds import fingerprint_ids
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.files import atomic_write, fingerprint_file, write_text

_COLUMNS = ("image", "group", "class", "rle")


@dataclass(frozen=True)
class PseudoLabels:
    """Origin of a file of pseudo-labels, as in the JSON file beside it."""

    held_out: str
    """Fingerprint of the images that the model was not trained on."""
    weights: str
    """Fingerprint of the model."""
    images: int
    """Number of images predicted."""
    kept: int
    """Number of those whose masks are sure."""
    largest_doubt: float
    """Largest expected loss of Dice among the kept ones."""


def save_pseudo_labels(path: Path, samples: Sequence[Sample], labels: PseudoLabels, data: Path) -> None:
    """Write the rows of samples (image, group, class, rle) as CSV, and `labels` as JSON beside it.

    An image without an object has one row without a mask. Images are relative to the data folder if they lie in it.
    """
    rows = [
        (_relative(sample.image, data), sample.group, class_index, rle)
        for sample in samples
        for class_index, rle in sample.rows or [(0, "")]
    ]
    with atomic_write(path) as temporary:
        pd.DataFrame(rows, columns=list(_COLUMNS)).to_csv(temporary, index=False)
    write_text(path.with_suffix(".json"), json.dumps(asdict(labels), indent=2) + "\n")


def load_pseudo_samples(path: Path, validation: Sequence[Sample], data: Path) -> list[Sample]:
    """Read pseudo-labels as training samples of a fold.

    Args:
        path: what `save_pseudo_labels` wrote.
        validation: the validation samples of the fold.
        data: the data folder.

    Returns:
        Samples with rows; their ids begin with "pseudo/".

    Raises:
        UserError: there are no labels, or they would leak: their model was trained on a validation image, or an image
            belongs to a validation group or is a copy of a validation image.
    """
    fix = "run `make pseudo` for this fold again"
    try:
        labels = PseudoLabels(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", fix) from None
    except (ValueError, TypeError) as error:
        raise UserError(path, f"is damaged ({str(error)[:100]})", fix) from None
    if tuple(table.columns) != _COLUMNS:
        raise UserError(path, f"has other columns than {', '.join(_COLUMNS)}", fix)
    if labels.held_out != fingerprint_ids(validation):
        raise UserError(path, "was predicted by a model that has not held out the validation images of this fold", fix)
    groups = {sample.group for sample in validation}
    by_length: defaultdict[int, list[Path]] = defaultdict(list)
    for sample in validation:
        by_length[sample.image.stat().st_size].append(sample.image)
    by_content: dict[int, dict[str, str]] = {}
    samples = []
    for image, rows in table.groupby("image", sort=False):
        file, group = data / str(image), rows["group"].iloc[0]
        if not file.is_file():
            raise UserError(path, f"names {file}, which is no file", fix)
        if group in groups:
            raise UserError(path, f"has {file}, whose group {group} is validated in this fold", "leave it out")
        if (length := file.stat().st_size) in by_length:
            if length not in by_content:
                by_content[length] = {fingerprint_file(other): other.name for other in by_length[length]}
            if name := by_content[length].get(fingerprint_file(file)):
                raise UserError(path, f"has {file}, which is {name}, validated in this fold", "leave it out")
        pairs = zip(rows["class"].astype(int).tolist(), rows["rle"].tolist(), strict=True)
        found = tuple((class_index, rle) for class_index, rle in pairs if rle)
        samples.append(Sample(id=f"pseudo/{file.name}", image=file, group=group, rows=found))
    return samples


def _relative(image: Path, data: Path) -> Path:
    return image.relative_to(data) if image.is_relative_to(data) else image.resolve()
