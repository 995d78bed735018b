"""A submission beside the truth: photo, mask over it, and where it is wrong."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline.competition import Competition, test_samples
from pipeline.data import draw, rle, rows
from pipeline.data.images import read_image
from pipeline.errors import UserError
from pipeline.files import atomic


def write_comparison(
    competition: Competition, data: Path, submission: Path, solution: Path, ids: Sequence[str], out: Path
) -> None:
    """Write one picture with a row for each id: the photo, the predicted mask over it, what was missed and added.

    Args:
        competition: what the data is.
        data: the folder that holds the competition's files.
        submission: a submission file.
        solution: the true masks, in the same form.
        ids: of test images, in the order of the rows.
        out: a .jpg or .png file.

    Raises:
        UserError: an id is in none of the files, or a file cannot be read.
    """
    samples = {sample.id: sample for sample in test_samples(competition, data)}
    predicted, true = (masks_of(path, competition, ids) for path in (submission, solution))
    pictures = []
    for name in ids:
        if name not in samples:
            raise UserError(f"{data}: has no test image {name}; check the id")
        image = read_image(samples[name].image)
        shape = (image.shape[0], image.shape[1])
        mask, truth = (rle.decode(texts[name], shape, competition.csv.order) for texts in (predicted, true))
        pictures.append([image, draw.overlay(image, mask), draw.errors(image, mask, truth)])
    with atomic(out) as temporary:
        Image.fromarray(draw.grid(pictures)).save(temporary, quality=88)


def masks_of(path: Path, competition: Competition, ids: Sequence[str]) -> dict[str, str]:
    """The texts of some masks in a CSV file, by id.

    Raises:
        UserError: the file cannot be read, or an id is not in it.
    """
    wanted = set(ids)
    found = {row.id: row.rle for row in rows.read(path, competition.csv.columns) if row.id in wanted}
    if missing := wanted - found.keys():
        raise UserError(f"{path}: has no row for {min(missing)}; check the id")
    return found
