"""The images that an export is compared on."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.data.samples import load_test_samples
from pipeline.errors import UserError
from pipeline.synthetic.dataset import write_synthetic_dataset

log = logging.getLogger(__name__)

MOST = 50
_RENDERED_SIZE = (960, 640)


@contextmanager
def comparison_images(competition: Competition, data: Path) -> Iterator[Sequence[Path]]:
    """Yield up to `MOST` test images, spread over the test set; rendered cars where there is none."""
    try:
        images = [sample.image for sample in load_test_samples(competition, data)]
    except UserError as error:
        log.info("%s; compared on rendered cars", error)
        images = []
    if images:
        yield [images[number] for number in np.linspace(0, len(images) - 1, min(MOST, len(images))).astype(int)]
        return
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        write_synthetic_dataset(Path(folder) / "cars", train_cars=1, test_cars=1, size=_RENDERED_SIZE)
        yield sorted((Path(folder) / "cars" / "test").glob("*.jpg"))
