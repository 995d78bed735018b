"""Pseudo-labels: masks that a fold's own model predicted for unlabeled images, as further training samples.

They are leak-proof by construction: a fold trains only on labels from a model that had held out the same validation
images, and on no image of their groups.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from pipeline.data.folds import fingerprint_ids
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.files import atomic_write, write_text

_COLUMNS = ("image", "group", "class", "rle")


@dataclass(frozen=True)
class PseudoLabels:
    """What the file of pseudo-labels was made from, as in the JSON file beside it."""

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


def save_pseudo_labels(path: Path, samples: Sequence[Sample], labels: PseudoLabels) -> None:
    """Write the rows of samples (image, group, class, rle) as CSV, and `labels` as JSON beside it.

    An image without an object has one row without a mask.
    """
    rows = [
        (sample.image.resolve(), sample.group, class_index, rle)
        for sample in samples
        for class_index, rle in sample.rows or [(0, "")]
    ]
    with atomic_write(path) as temporary:
        pd.DataFrame(rows, columns=list(_COLUMNS)).to_csv(temporary, index=False)
    write_text(path.with_suffix(".json"), json.dumps(asdict(labels), indent=2) + "\n")


def load_pseudo_samples(path: Path, validation: Sequence[Sample]) -> list[Sample]:
    """Read pseudo-labels as training samples of a fold.

    Args:
        path: what `save_pseudo_labels` wrote.
        validation: the validation samples of the fold.

    Returns:
        Samples with rows; their ids begin with "pseudo/".

    Raises:
        UserError: there are no labels, or they would leak: their model was trained on a validation image, or an image
            belongs to a validation group.
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
    files = {sample.image.resolve() for sample in validation}
    samples = []
    for image, rows in table.groupby("image", sort=False):
        file, group = Path(str(image)), rows["group"].iloc[0]
        if group in groups or file in files:
            raise UserError(path, f"has {file}, whose group {group} is validated in this fold", "leave it out")
        if not file.is_file():
            raise UserError(path, f"names {file}, which is no file", fix)
        pairs = zip(rows["class"].astype(int).tolist(), rows["rle"].tolist(), strict=True)
        found = tuple((class_index, rle) for class_index, rle in pairs if rle)
        samples.append(Sample(id=f"pseudo/{file.name}", image=file, group=group, rows=found))
    return samples


def fingerprint_pseudo(path: Path) -> str:
    """Return a short hash of a file of pseudo-labels."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
