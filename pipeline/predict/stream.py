"""Images in, probabilities and rows out, in one pass and in constant memory.

Three things happen at once: threads read ahead, the device predicts, threads turn finished masks into text. All queues
are bounded, so the slowest of the three sets the pace, and 100,064 images need no more memory than 100.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.competition import Competition, Sample
from pipeline.data import rle
from pipeline.data.images import image_size, read_image, read_mask
from pipeline.errors import UserError
from pipeline.host import available_cores
from pipeline.model.metrics import enlarge
from pipeline.predict.ensemble import Ensemble
from pipeline.recipe import Recipe

Item = TypeVar("Item")
Result = TypeVar("Result")


class Predicted(NamedTuple):
    """One image's prediction at its native size, on the device."""

    sample: Sample
    probability: Tensor
    """(native height, native width) float32, 0 to 1."""
    truth: np.ndarray | None
    """(native height, native width) bool, where the sample has a mask and it was asked for."""


def probabilities(
    ensemble: Ensemble, samples: Sequence[Sample], recipe: Recipe, truth: Competition | None = None
) -> Iterator[Predicted]:
    """Predict samples in order.

    Args:
        ensemble: the networks.
        samples: what to predict.
        recipe: gives the input size and the batch; a batch that fits a training fits a prediction.
        truth: the competition, if the samples' masks are to be read along.

    Raises:
        UserError: a file cannot be decoded.
    """

    def read(sample: Sample) -> tuple[Sample, np.ndarray, tuple[int, int], np.ndarray | None]:
        image = read_image(sample.image, recipe.input.size)
        mask = read_mask(sample.mask, truth.masks.positive) if truth and sample.mask else None
        width, height = image_size(sample.image)
        if mask is not None and mask.shape != (height, width):
            raise UserError(f"{sample.mask}: is not as large as {sample.image}; run `make check`")
        return sample, image, (height, width), mask

    threads = available_cores()
    batch = recipe.train.batch
    with ThreadPoolExecutor(threads) as pool, closing(ahead(pool, read, samples, batch + 2 * threads)) as items:
        while chunk := list(islice(items, batch)):
            images = np.stack([image for _, image, _, _ in chunk])
            predicted = ensemble(torch.from_numpy(images.transpose(0, 3, 1, 2)))
            for (sample, _, size, mask), probability in zip(chunk, predicted, strict=True):
                yield Predicted(sample, enlarge(probability[None], size)[0, 0], mask)


def rows(
    ensemble: Ensemble, samples: Sequence[Sample], competition: Competition, recipe: Recipe, threshold: float
) -> Iterator[tuple[str, str]]:
    """The (id, RLE) of each sample, in order; a pixel is in the mask if its probability is at least `threshold`."""

    def encode(item: tuple[str, Tensor]) -> tuple[str, str]:
        name, mask = item
        # The copy to the host waits for the device; here it holds up a thread and not the next batch.
        return name, rle.encode(mask.cpu().numpy(), competition.csv.order)

    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool, closing(probabilities(ensemble, samples, recipe)) as predictions:
        size = competition.images.size
        predictions = (_require_size(item, size) for item in predictions) if size else predictions
        masks = ((item.sample.id, cut(item.probability, threshold, competition)) for item in predictions)
        yield from ahead(pool, encode, masks, 2 * threads)


def _require_size(item: Predicted, size: tuple[int, int]) -> Predicted:
    """Runs of a mask of another size mean other pixels, and would score near zero without a word."""
    height, width = item.probability.shape
    if (width, height) != size:
        raise UserError(
            f"{item.sample.image}: is {width}×{height}, but all images of this competition are {size[0]}×{size[1]}; "
            "fetch it again"
        )
    return item


def cut(probability: Tensor, threshold: float, competition: Competition) -> Tensor:
    """The mask (h, w) bool of a probability (h, w): where it is at least `threshold`.

    Where no mask may be empty, the most probable pixels stand in for an empty one: Kaggle scores that row near zero
    all the same, but takes the file.
    """
    if not competition.masks.may_be_empty:
        return probability >= probability.max().clamp(max=threshold)
    return probability >= threshold


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Like `map`, in order, with up to `depth` calls running or waiting to be taken."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
