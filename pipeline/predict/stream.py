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
from pipeline.data.images import decode_image, image_size, read_bytes, read_mask
from pipeline.errors import UserError
from pipeline.host import available_cores
from pipeline.model.metrics import enlarge
from pipeline.predict.ensemble import Member

Size = tuple[int, int]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Predicted(NamedTuple):
    """One image's predictions at its native size, on the device."""

    sample: Sample
    by_member: tuple[Tensor, ...]
    """Of each member, (native height, native width) float32, 0 to 1."""
    truth: np.ndarray | None
    """(native height, native width) bool, where the sample has a mask and it was asked for."""

    def mean(self, shares: Sequence[float] | None = None) -> Tensor:
        """The probability (native height, native width) of all members together.

        Args:
            shares: of the members, which add up to 1; equal if None.
        """
        if len(self.by_member) == 1:
            return self.by_member[0]
        shares = shares or [1 / len(self.by_member)] * len(self.by_member)
        total = torch.zeros_like(self.by_member[0])
        for share, probability in zip(shares, self.by_member, strict=True):
            total.add_(probability, alpha=share)
        # Sums of shares can pass 1 by a rounding error.
        return total.clamp_(max=1)


def probabilities(
    members: Sequence[Member], samples: Sequence[Sample], truth: Competition | None = None
) -> Iterator[Predicted]:
    """Predict samples in order; a file is read once, and decoded once for each input size.

    Args:
        members: what predicts; the smallest of their batches fits all of them.
        samples: what to predict.
        truth: the competition, if the samples' masks are to be read along.

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
            raise UserError(f"{sample.mask}: is not as large as {sample.image}; run `make check`")
        return sample, images, (height, width), mask

    threads = available_cores()
    batch = min(member.recipe.train.batch for member in members)
    with ThreadPoolExecutor(threads) as pool, closing(ahead(pool, read, samples, batch + 2 * threads)) as items:
        while chunk := list(islice(items, batch)):
            stacks = {size: np.stack([images[size] for _, images, _, _ in chunk]) for size in sizes}
            batches = {size: torch.from_numpy(stack.transpose(0, 3, 1, 2)) for size, stack in stacks.items()}
            predicted = [member.ensemble(batches[member.recipe.input.size]) for member in members]
            for (sample, _, native, mask), *each in zip(chunk, *predicted, strict=True):
                yield Predicted(sample, tuple(enlarge(small[None], native)[0, 0] for small in each), mask)


def rows(
    members: Sequence[Member],
    samples: Sequence[Sample],
    competition: Competition,
    threshold: float,
    shares: Sequence[float] | None = None,
) -> Iterator[tuple[str, str]]:
    """The (id, RLE) of each sample, in order; a pixel is in the mask if its probability is at least `threshold`.

    The probability is the members' mean by `shares`, which add up to 1; equal if None.
    """

    def encode(item: tuple[str, Tensor]) -> tuple[str, str]:
        name, mask = item
        # The copy to the host waits for the device; here it holds up a thread and not the next batch.
        return name, rle.encode(mask.cpu().numpy(), competition.csv.order)

    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool, closing(probabilities(members, samples)) as predictions:
        size = competition.images.size
        predictions = (_require_size(item, size) for item in predictions) if size else predictions
        masks = ((item.sample.id, cut(item.mean(shares), threshold, competition)) for item in predictions)
        yield from ahead(pool, encode, masks, 2 * threads)


def _require_size(item: Predicted, size: tuple[int, int]) -> Predicted:
    """Runs of a mask of another size mean other pixels, and would score near zero without a word."""
    height, width = item.by_member[0].shape
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
