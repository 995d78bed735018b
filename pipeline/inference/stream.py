"""Predict images in one pass and in constant memory.

Three steps run concurrently: threads read and decode ahead, the device predicts, threads encode finished masks. All
queues are bounded, so the slowest step sets the pace, and 100,064 images need no more memory than 100.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.competition import Competition
from pipeline.data.headers import require_size
from pipeline.data.labels import Truth
from pipeline.data.masks import Size
from pipeline.data.readers import ImageReader
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.host import available_cores
from pipeline.inference.doubt import expected_dice_loss
from pipeline.inference.ensemble import EnsembleMember, can_compare_flips
from pipeline.inference.postprocess import Postprocess, binarize, upsample
from pipeline.inference.rows import ImageRows, RowEncoder
from pipeline.parallel import prefetch

log = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """The probabilities of one image at the size of submissions, on the device."""

    sample: Sample
    by_member: tuple[Tensor, ...]
    """One map (classes, h, w) float32, 0 to 1, per member."""
    truth: Truth | None
    """The ground truth, if it was requested and the sample has a label."""
    unflipped: tuple[Tensor, ...] | None = None
    """The same as `by_member` without the flips, if requested and if they make a difference."""

    def mean(self, ensemble_weights: Sequence[float] | None = None) -> Tensor:
        """Average the members.

        Args:
            ensemble_weights: weights of the members, with sum 1; equal weights if None.

        Returns:
            (classes, h, w) float32, 0 to 1.
        """
        return mean_probability(self.by_member, ensemble_weights)


def mean_probability(maps: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Average probabilities of one shape, 0 to 1; `weights` have the sum 1 and are equal if None."""
    if len(maps) == 1:
        return maps[0]
    total = torch.zeros_like(maps[0])
    for weight, probability in zip(weights or [1 / len(maps)] * len(maps), maps, strict=True):
        total.add_(probability, alpha=weight)
    # The sum can exceed 1 by a rounding error.
    return total.clamp_(max=1)


class _ReadSample(NamedTuple):
    """A sample after reading and decoding."""

    sample: Sample
    inputs: dict[Size, np.ndarray]
    """Input size (width, height) -> image (h, w, channels) uint8."""
    size: Size
    """(width, height) of the prediction."""
    truth: Truth | None


class ImageWatch(Protocol):
    """Receives the problems of images; called from several threads."""

    def add_unreadable(self, sample: Sample, error: UserError) -> None:
        """Note a sample that cannot be predicted."""

    def add_damaged(self, sample: Sample, warning: str) -> None:
        """Note a sample that is predicted although its decoder has a warning."""


def predict_probabilities(
    members: Sequence[EnsembleMember],
    samples: Sequence[Sample],
    out_size: Size | None = None,
    read_truth: Callable[[Sample], Truth] | None = None,
    watch: ImageWatch | None = None,
    expected_size: Size | None = None,
    images: ImageReader | None = None,
    *,
    unflipped: bool = False,
) -> Generator[Prediction]:
    """Predict samples in order. A file is read once and decoded once per input size.

    Args:
        members: the models; the smallest of their batch sizes is used.
        samples: what to predict.
        out_size: (width, height) of the predictions; the size of each image if None.
        read_truth: reads the labels of a sample, to be returned with its prediction.
        watch: receives damaged images, and of samples whose files cannot be read, which are then left out; without
            it, their error is raised.
        expected_size: (width, height) that every image must have.
        images: reads the images; as RGB if None.
        unflipped: return also the probabilities without flips, if every member predicts the unflipped view and at
            least one predicts others.

    Raises:
        UserError: a file cannot be decoded, or has another size than its labels or than `expected_size`.
    """
    images = images or ImageReader()
    sizes = list({member.recipe.model_size for member in members})
    compare = unflipped and can_compare_flips(members)

    def read(sample: Sample) -> _ReadSample | None:
        try:
            return read_files(sample)
        except UserError as error:
            if sample.replacement is not None:
                log.warning("%s: %s; predicted from %s", error.where, error.what, sample.replacement)
                return read(sample.replaced())
            if watch is None:
                raise
            watch.add_unreadable(sample, error)
            return None

    def read_files(sample: Sample) -> _ReadSample:
        on_damage = partial(watch.add_damaged, sample) if watch else None
        inputs = dict(zip(sizes, images.read_sizes(sample, sizes, on_damage), strict=True))
        truth = read_truth(sample) if read_truth and sample.has_label else None
        size = out_size or images.size(sample)
        if expected_size is not None and not out_size:
            require_size(sample, size, expected_size)
        if truth is not None and truth.masks.shape[1:] != size[::-1]:
            height, width = truth.masks.shape[1:]
            what = f"is {size[0]}×{size[1]}, but its mask is {width}×{height}"
            raise UserError(sample.image, what, "give both the same size; `make check` lists all such files")
        return _ReadSample(sample, inputs, size, truth)

    threads = available_cores()
    batch_size = min(member.recipe.train.batch_size for member in members)
    depth = batch_size + 2 * threads
    with ThreadPoolExecutor(threads) as pool, closing(prefetch(pool, read, samples, depth)) as items:
        readable = (item for item in items if item is not None)
        while chunk := list(islice(readable, batch_size)):
            stacks = {size: np.stack([item.inputs[size] for item in chunk]) for size in sizes}
            batches = {size: torch.from_numpy(stack.transpose(0, 3, 1, 2)) for size, stack in stacks.items()}
            predicted = (member.ensemble.predict(batches[member.recipe.model_size]) for member in members)
            means, views = zip(*predicted, strict=True)
            for number, item in enumerate(chunk):
                by_member = _upsample_one(means, number, item.size)
                plain = _upsample_one(views, number, item.size) if compare else None
                yield Prediction(item.sample, by_member, item.truth, plain)


def _upsample_one(batches: Sequence[Tensor], number: int, size: Size) -> tuple[Tensor, ...]:
    """Take one image (classes, h, w) from each batch and resize it to `size` = (width, height)."""
    return tuple(upsample(batch[number : number + 1], size[::-1])[0] for batch in batches)


def predict_rows(
    members: Sequence[EnsembleMember],
    samples: Sequence[Sample],
    competition: Competition,
    postprocess: Postprocess,
    ensemble_weights: Sequence[float] | None = None,
    watch: ImageWatch | None = None,
    doubts: MutableMapping[str, list[float]] | None = None,
) -> Generator[tuple[str, ImageRows]]:
    """Predict the rows of each sample, in order.

    Args:
        members: the models.
        samples: what to predict.
        competition: its RLE format, kind of rows and image size are used.
        postprocess: thresholds, minimum areas and rules.
        ensemble_weights: weights of the members, with sum 1; equal weights if None.
        watch: see `predict_probabilities`.
        doubts: receives `expected_dice_loss` of each class, by the id of the sample, before its rows are yielded.

    Yields:
        The id of a sample and its (index of the class, RLE) rows.

    Raises:
        UserError: a file cannot be decoded or has another size than the competition's images.
    """
    encoder = RowEncoder(competition, postprocess)

    def encode(item: tuple[str, Tensor, Tensor | None]) -> tuple[str, ImageRows]:
        id, masks, doubt = item
        if doubts is not None and doubt is not None:
            doubts[id] = doubt.tolist()
        # The copy to the host waits for the device; in this thread it does not delay the next batch.
        return id, encoder.encode(masks.cpu().numpy())

    def masks(predictions: Iterable[Prediction]) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        for item in predictions:
            mean = item.mean(ensemble_weights)
            binary = binarize(mean, postprocess)
            yield item.sample.id, binary, expected_dice_loss(mean, binary) if doubts is not None else None

    threads = available_cores()
    stream = predict_probabilities(
        members,
        samples,
        competition.csv.size,
        watch=watch,
        expected_size=competition.images.size,
        images=ImageReader(competition),
    )
    with ThreadPoolExecutor(threads) as pool, closing(stream) as predictions:
        yield from prefetch(pool, encode, masks(predictions), 2 * threads)
