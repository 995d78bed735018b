"""Predict images of any size in overlapping windows, in memory for one row of windows.

Each window is read, resized to the input size, predicted, and resized back. Where windows overlap, their probabilities
are averaged with a weight that falls from the center (`pipeline.data.windows.blend_weight`), because a network sees
less of the surroundings near the edge of a window. The rows of pixels that no later window reaches are finished and
passed on, as a band.
"""

import logging
from collections.abc import Callable, Generator, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.headers import require_size
from pipeline.data.labels import LabelReader
from pipeline.data.masks import Size
from pipeline.data.rle import rle_format, runs_to_rle
from pipeline.data.samples import Sample
from pipeline.data.window_reader import WindowReader
from pipeline.data.windows import RunCollector, Window, blend_weight, grid_starts
from pipeline.errors import UserError
from pipeline.host import available_cores
from pipeline.inference.doubt import expected_dice_terms
from pipeline.inference.ensemble import EnsembleMember, can_compare_flips
from pipeline.inference.postprocess import Postprocess, binarize, upsample
from pipeline.inference.rows import ImageRows
from pipeline.inference.stream import ImageWatch, mean_probability
from pipeline.parallel import prefetch

log = logging.getLogger(__name__)


class Band(NamedTuple):
    """Finished rows of the prediction of a region."""

    window: Window
    """Where it lies in the image; as wide as the region."""
    by_member: tuple[Tensor, ...]
    """One map (classes, h, w) float32 on the CPU, 0 to 1, per member."""
    unflipped: tuple[Tensor, ...] | None
    """The same without the flips, if requested and if they make a difference."""


def predict_bands(
    members: Sequence[EnsembleMember], sample: Sample, windows: WindowReader, *, unflipped: bool = False
) -> Generator[Band]:
    """Predict the region of a sample from the top.

    Args:
        members: the models; the smallest of their batch sizes is used.
        sample: the sample.
        windows: reads the windows.
        unflipped: return also the probabilities without flips, if every member predicts the unflipped view and at
            least one predicts others.

    Yields:
        Bands without gaps from the first to the last row of the region.

    Raises:
        UnreadableImageError: the file cannot be read.
        UserError: the probabilities of a model are not finite.
    """
    region, (width, height) = windows.region(sample), windows.config.size
    steps = [max(1, round(side * (1 - windows.config.overlap))) for side in (width, height)]
    lefts, tops = grid_starts(region.width, width, steps[0]), grid_starts(region.height, height, steps[1])
    places = [Window(region.left + left, region.top + top, width, height) for top in tops for left in lefts]
    compare = unflipped and can_compare_flips(members)
    canvases = [_Canvas(region.width, (width, height)) for _ in members]
    plain = [_Canvas(region.width, (width, height)) for _ in members] if compare else []
    with closing(_predict_windows(members, sample, windows, places, compare)) as predicted:
        for row, top in enumerate(tops):
            for left in lefts:
                means, views = next(predicted)
                for canvas, mean in zip(canvases, means, strict=True):
                    canvas.add(mean, left)
                for canvas, view in zip(plain, views, strict=True):
                    canvas.add(view, left)
            finished = (tops[row + 1] if row + 1 < len(tops) else region.height) - top
            yield Band(
                Window(region.left, region.top + top, region.width, finished),
                tuple(canvas.take(finished) for canvas in canvases),
                tuple(canvas.take(finished) for canvas in plain) if compare else None,
            )


class _Canvas:
    """Weighted sums of the probabilities of one row of windows, and of what the next row shares with it."""

    def __init__(self, width: int, size: Size) -> None:
        self.width = width
        self.size = size
        self.weight = torch.from_numpy(blend_weight(size))
        self.weights = torch.zeros(size[1], width)
        self.sums: Tensor | None = None

    def add(self, probability: Tensor, left: int) -> None:
        """Add the probabilities (classes, h, w) of a window that begins at a column of the region."""
        if self.sums is None:
            self.sums = torch.zeros(len(probability), self.size[1], self.width)
        right = min(self.width, left + self.size[0])
        weight = self.weight[:, : right - left]
        self.sums[..., left:right].addcmul_(probability[..., : right - left], weight)
        self.weights[:, left:right] += weight

    def take(self, rows: int) -> Tensor:
        """Return the first rows (classes, rows, width) and move the others up."""
        assert self.sums is not None
        # The sum can exceed that of the weights by a rounding error.
        result = (self.sums[:, :rows] / self.weights[:rows]).clamp_(max=1)
        self.sums, self.weights = (_move_up(values, rows) for values in (self.sums, self.weights))
        return result


class UnreadableImageError(UserError):
    """An image cannot be read; all other errors of a prediction concern more than one image."""


def predict_window_rows(
    members: Sequence[EnsembleMember],
    samples: Sequence[Sample],
    competition: Competition,
    postprocess: Postprocess,
    ensemble_weights: Sequence[float] | None,
    watch: ImageWatch,
    doubts: MutableMapping[str, list[float]],
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[tuple[str, ImageRows]]:
    """Predict the rows of each sample in windows, in order.

    Args:
        members: the models.
        samples: what to predict.
        competition: its windows, image size, classes and RLE format are used.
        postprocess: thresholds, minimum areas and rules.
        ensemble_weights: weights of the members, with sum 1; equal weights if None.
        watch: receives samples whose files cannot be read, which are then left out.
        doubts: receives the expected loss of Dice of each class, by the id of the sample, before its rows are yielded.
        should_stop: called after each band, because an image can take minutes; if it returns True, the current image
            is discarded and the generator ends.

    Yields:
        The id of a sample and its (index of the class, RLE) rows.

    Raises:
        UserError: the probabilities of a model are not finite.
    """
    windows = WindowReader(competition, LabelReader(competition))

    def predict(sample: Sample) -> BandMasks | None:
        """Return the masks, or None if the sample cannot be read."""
        try:
            return predict_file(sample)
        except UnreadableImageError as error:
            if sample.replacement is not None:
                log.warning("%s: %s; predicted from %s", error.where, error.what, sample.replacement)
                return predict(sample.replaced())
            watch.add_unreadable(sample, error)
            return None

    def predict_file(sample: Sample) -> BandMasks:
        with _explain_reading():
            size, region = windows.labels.images.size(sample), windows.region(sample)
            if competition.images.size is not None:
                require_size(sample, size, competition.images.size)
        masks = BandMasks(competition, postprocess, region)
        with tqdm(total=region.height, desc=sample.id, unit=" rows", leave=False, delay=2) as bar:
            for band in predict_bands(members, sample, windows):
                masks.add(mean_probability(band.by_member, ensemble_weights))
                bar.update(band.window.height)
                if should_stop():
                    raise _StoppedError
        return masks

    for sample in samples:
        try:
            masks = predict(sample)
        except _StoppedError:
            return
        if masks is not None:
            doubts[sample.id] = masks.doubts()
            yield sample.id, masks.rows()


class _StoppedError(Exception):
    """The prediction is to stop within an image."""


@contextmanager
def _explain_reading() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UnreadableImageError(error.where, error.what, error.fix) from None


class BandMasks:
    """The masks of one image, made band by band and kept as runs.

    Args:
        competition: its pixel order, RLE format and classes are used.
        postprocess: thresholds, minimum areas and rules.
        region: what of the image is predicted.
    """

    def __init__(self, competition: Competition, postprocess: Postprocess, region: Window) -> None:
        self.format = rle_format(competition)
        self.postprocess = postprocess
        self.pixels = region.width * region.height
        shape = (region.height, region.width)
        self._collectors = [RunCollector(shape, self.format.order) for _ in range(competition.num_classes)]
        self._terms = np.zeros((2, competition.num_classes))

    def add(self, probability: Tensor) -> Tensor:
        """Binarize the next band (classes, h, w) float32; return its masks, (classes, h, w) bool."""
        # A minimum area applies to whole masks.
        rules = replace(self.postprocess, min_areas=(0.0,) * len(probability))
        masks = binarize(probability, rules)
        self._terms += torch.stack(expected_dice_terms(probability, masks)).double().numpy()
        for collector, mask in zip(self._collectors, masks.numpy(), strict=True):
            collector.add(mask)
        return masks

    def rows(self) -> ImageRows:
        """Return the (index of the class, RLE) rows of the finished image."""
        rows = []
        for index, collector in enumerate(self._collectors):
            runs = collector.finish()
            if runs[:, 1].sum() < np.ceil(self.postprocess.min_areas[index] * self.pixels):
                runs = runs[:0]
            rows.append((index, runs_to_rle(runs, self.format)))
        return rows

    def doubts(self) -> list[float]:
        """Return the expected loss of Dice of each class; see `pipeline.inference.doubt.expected_dice_loss`."""
        wrong, total = self._terms
        losses: list[float] = (wrong / np.maximum(total, 1e-6)).tolist()
        return losses


def _move_up(values: Tensor, rows: int) -> Tensor:
    kept = values[..., rows:, :].clone()  # source and destination overlap
    values[..., : kept.shape[-2], :] = kept
    values[..., kept.shape[-2] :, :] = 0
    return values


def _predict_windows(
    members: Sequence[EnsembleMember],
    sample: Sample,
    windows: WindowReader,
    places: Sequence[Window],
    unflipped: bool,
) -> Generator[tuple[list[Tensor], list[Tensor]]]:
    """Yield the probabilities of each window at its own size, per member (classes, h, w) float32 on the CPU.

    First the means over the flips, then, if `unflipped`, those without flips; otherwise nothing.
    """
    sizes = list({member.recipe.model_size for member in members})
    width, height = windows.config.size

    def read(place: Window) -> dict[Size, np.ndarray]:
        with _explain_reading():
            return {size: windows.read_image(sample, place, size) for size in sizes}

    threads = available_cores()
    batch_size = min(member.recipe.train.batch_size for member in members)
    with (
        ThreadPoolExecutor(threads) as pool,
        closing(prefetch(pool, read, places, batch_size + 2 * threads)) as images,
    ):
        while chunk := list(islice(images, batch_size)):
            batches = {size: np.stack([item[size] for item in chunk]).transpose(0, 3, 1, 2) for size in sizes}
            inputs = (torch.from_numpy(batches[member.recipe.model_size]) for member in members)
            predicted = [member.ensemble.predict(batch) for member, batch in zip(members, inputs, strict=True)]
            means = [upsample(mean, (height, width)).cpu() for mean, _ in predicted]
            views = [upsample(view, (height, width)).cpu() for _, view in predicted if unflipped and view is not None]
            for number in range(len(chunk)):
                yield [maps[number] for maps in means], [maps[number] for maps in views]
