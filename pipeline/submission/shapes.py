"""The rows that a submission must have, and the sizes of their masks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.headers import read_headers
from pipeline.data.masks import Shape
from pipeline.data.patterns import fixed_part
from pipeline.data.readers import ImageReader
from pipeline.data.samples import (
    RowKey,
    Sample,
    load_test_samples,
    read_submission_keys,
    require_all_named,
    warn_if_incomplete,
)
from pipeline.errors import UserError


def expected_shapes(competition: Competition, data: Path, sample: Path | None = None) -> dict[RowKey, Shape]:
    """Return the (id, class) of each row that a submission must have, and the size of its mask.

    Args:
        competition: its sample submission and test folder are used.
        data: the data folder.
        sample: another sample submission.

    Returns:
        (id, index of the class) -> (height, width), in the order of the sample submission. Images are read only if
        they do not all have the same size.

    Raises:
        UserError: the sample cannot be read, there is neither a sample nor a test image, an id has no test image, or
            the sample of this data folder lacks test images that are there.
    """
    keys = read_submission_keys(competition, data, sample)
    if keys is not None and sample is None:
        warn_if_incomplete(competition, data, len({id for id, _ in keys}))
    if keys is not None and sample is None and _has_test_images(competition, data):
        require_all_named(competition, data, {id for id, _ in keys}, load_test_samples(competition, data))
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


def solution_shapes(competition: Competition, data: Path, solution: Path) -> Mapping[RowKey, Shape]:
    """Return the sizes of the masks in a solution, without reading it if all masks have one size.

    Raises:
        UserError: as `expected_shapes`.
    """
    size = competition.csv.size or competition.images.size
    return _OneShape(size[::-1]) if size else expected_shapes(competition, data, solution)


class _OneShape(Mapping[RowKey, Shape]):
    """The same shape for every key."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def __getitem__(self, _: RowKey) -> Shape:
        return self._shape

    def __iter__(self) -> Iterator[RowKey]:
        return iter(())

    def __len__(self) -> int:
        return 0


def image_shapes(competition: Competition, samples: Sequence[Sample]) -> dict[str, Shape]:
    """Return id -> (height, width) of the submitted masks: ``csv.size``, ``images.size``, or the image's own.

    An image that cannot be opened counts as one of the most frequent size.

    Raises:
        UserError: no image can be opened.
    """
    size = competition.csv.size or competition.images.size
    if size:
        return dict.fromkeys((sample.id for sample in samples), size[::-1])
    headers = read_headers(samples, ImageReader(competition))
    usual = headers.usual_size()
    return {sample.id: headers.sizes.get(sample.id, usual)[::-1] for sample in samples}


def _has_test_images(competition: Competition, data: Path) -> bool:
    """Return whether there are test images; without them a submission is checked against the sample alone."""
    test = competition.images.test
    return test is not None and (data / fixed_part(test)).is_dir() and any((data / fixed_part(test)).iterdir())
