"""The rows that a submission must have, and the sizes of their masks."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.images import image_size
from pipeline.data.samples import RowKey, Sample, load_test_samples, read_submission_keys
from pipeline.errors import UserError

Shape = tuple[int, int]
"""(height, width) in pixels."""


def expected_shapes(competition: Competition, data: Path, sample: Path | None = None) -> dict[RowKey, Shape]:
    """Return the (id, class) of each row that a submission must have, and the size of its mask.

    Args:
        competition: names the sample submission and the test folder.
        data: the data folder.
        sample: another sample submission.

    Returns:
        (id, index of the class) -> (height, width), in the order of the sample submission. Images are read only if
        they do not all have the same size.

    Raises:
        UserError: the sample cannot be read, there is neither a sample nor a test image, or an id has no test image.
    """
    keys = read_submission_keys(competition, data, sample)
    size = competition.csv.size or competition.images.size
    if keys is not None and size:
        return dict.fromkeys(keys, size[::-1])
    samples = {image.id: image for image in load_test_samples(competition, data)}
    classes = competition.num_classes if competition.csv.rows != "image" else 1
    keys = keys if keys is not None else [(id, number) for id in samples for number in range(classes)]
    lost = next((id for id, _ in keys if id not in samples), None)
    if lost is not None:
        path = sample or data / str(competition.csv.sample)
        raise UserError(path, f"has the id {lost!r}, which is no test image", "download what is missing")
    shapes = image_shapes(competition, [samples[id] for id in dict.fromkeys(id for id, _ in keys)])
    return {key: shapes[key[0]] for key in keys}


def image_shapes(competition: Competition, samples: Sequence[Sample]) -> dict[str, Shape]:
    """Return id -> (height, width) of the submitted masks: ``csv.size``, ``images.size``, or the image's own.

    Raises:
        UserError: an image cannot be opened.
    """
    size = competition.csv.size or competition.images.size
    if size:
        return dict.fromkeys((sample.id for sample in samples), size[::-1])
    bar = tqdm(samples, desc="sizes", unit=" images", delay=2)
    return {sample.id: image_size(sample.image)[::-1] for sample in bar}
