"""Predict images in one pass and in constant memory.

Three steps run concurrently: threads read and decode ahead, the device predicts, threads encode finished masks. All
queues are bounded, so the slowest step sets the pace, and 100,064 images need no more memory than 100.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.competition import Competition
from pipeline.data.images import decode_image, image_size, read_bytes
from pipeline.data.masks import read_mask
from pipeline.data.rle import mask_to_rle
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.host import available_cores
from pipeline.inference.ensemble import EnsembleMember
from pipeline.inference.postprocess import binarize, upsample

Size = tuple[int, int]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Prediction(NamedTuple):
    """The probabilities of one image at its native size, on the device."""

    sample: Sample
    by_member: tuple[Tensor, ...]
    """One map (native h, native w) float32, 0 to 1, per member."""
    truth: np.ndarray | None
    """(native h, native w) bool, if it was asked for and the sample has a mask."""

    def mean(self, ensemble_weights: Sequence[float] | None = None) -> Tensor:
        """Average the members.

        Args:
            ensemble_weights: weights of the members, with sum 1; equal weights if None.

        Returns:
            (native h, native w) float32, 0 to 1.
        """
        if len(self.by_member) == 1:
            return self.by_member[0]
        weights = ensemble_weights or [1 / len(self.by_member)] * len(self.by_member)
        total = torch.zeros_like(self.by_member[0])
        for weight, probability in zip(weights, self.by_member, strict=True):
            total.add_(probability, alpha=weight)
        # The sum can exceed 1 by a rounding error.
        return total.clamp_(max=1)


def predict_probabilities(
    members: Sequence[EnsembleMember], samples: Sequence[Sample], truth: Competition | None = None
) -> Generator[Prediction]:
    """Predict samples in order. A file is read once and decoded once per input size.

    Args:
        members: the models; the smallest of their batch sizes is used.
        samples: what to predict.
        truth: the competition, to read the samples' masks too.

    Raises:
        UserError: a file cannot be decoded.
    """
    sizes = {member.recipe.input.size for member in members}

    def read(sample: Sample) -> tuple[Sample, dict[Size, np.ndarray], Size, np.ndarray | None]:
        data = read_bytes(sample.image)
        images = {size: decode_image(data, sample.image, size) for size in sizes}
        mask = read_mask(sample.mask, truth.masks.positive) if truth and sample.mask else None
        width, height = image_size(sample.image)
        if mask is not None and mask.shape != (height, width):
            raise UserError(str(sample.mask), f"has another size than {sample.image}", "run `make check`")
        return sample, images, (height, width), mask

    threads = available_cores()
    batch_size = min(member.recipe.train.batch_size for member in members)
    depth = batch_size + 2 * threads
    with ThreadPoolExecutor(threads) as pool, closing(prefetch(pool, read, samples, depth)) as items:
        while chunk := list(islice(items, batch_size)):
            stacks = {size: np.stack([images[size] for _, images, _, _ in chunk]) for size in sizes}
            batches = {size: torch.from_numpy(stack.transpose(0, 3, 1, 2)) for size, stack in stacks.items()}
            predicted = [member.ensemble(batches[member.recipe.input.size]) for member in members]
            for (sample, _, native, mask), *maps in zip(chunk, *predicted, strict=True):
                yield Prediction(sample, tuple(upsample(small[None], native)[0, 0] for small in maps), mask)


def predict_rows(
    members: Sequence[EnsembleMember],
    samples: Sequence[Sample],
    competition: Competition,
    threshold: float,
    ensemble_weights: Sequence[float] | None = None,
) -> Iterator[tuple[str, str]]:
    """Predict the (id, RLE) of each sample, in order.

    Args:
        members: the models.
        samples: what to predict.
        competition: gives the RLE's pixel order, the expected image size, and whether masks may be empty.
        threshold: see `binarize`.
        ensemble_weights: weights of the members, with sum 1; equal weights if None.

    Raises:
        UserError: a file cannot be decoded or has another size than the competition's images.
    """

    def encode(item: tuple[str, Tensor]) -> tuple[str, str]:
        id, mask = item
        # The copy to the host waits for the device; in this thread it does not delay the next batch.
        return id, mask_to_rle(mask.cpu().numpy(), competition.csv.order)

    def masks(predictions: Iterable[Prediction]) -> Iterator[tuple[str, Tensor]]:
        for item in predictions:
            _require_size(item, competition.images.size)
            probability = item.mean(ensemble_weights)
            yield item.sample.id, binarize(probability, threshold, may_be_empty=competition.masks.may_be_empty)

    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool, closing(predict_probabilities(members, samples)) as predictions:
        yield from prefetch(pool, encode, masks(predictions), 2 * threads)


def _require_size(item: Prediction, size: Size | None) -> None:
    """RLE depends on the image size; a mismatch scores near 0 without any error."""
    height, width = item.by_member[0].shape
    if size and (width, height) != size:
        what = f"is {width}×{height}, but all images of this competition are {size[0]}×{size[1]}"
        raise UserError(item.sample.image, what, "download it again")


def prefetch(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Generator[Result]:
    """Map `function` over `items` in order, with up to `depth` calls running or waiting to be taken."""
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
