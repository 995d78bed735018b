"""A model for single images of any size, outside the data of a competition."""

import contextlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.competition import Competition, load_competition
from pipeline.data.masks import Size
from pipeline.data.patterns import fill
from pipeline.data.readers import ImageReader
from pipeline.errors import UserError
from pipeline.inference.ensemble import EnsembleMember, load_ensemble_member
from pipeline.inference.onnx_model import OnnxEnsemble
from pipeline.inference.postprocess import Postprocess, upsample
from pipeline.inference.rows import RowEncoder
from pipeline.models.checkpoint import WeightsMetadata, read_weights_metadata
from pipeline.models.device import PREDICT_ON_CPU, ComputeDevice, choose_device, explain_out_of_memory
from pipeline.weights import find_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageModel:
    """The folds of one recipe, and the rules of the competition that they were trained for."""

    weights: list[Path]
    member: EnsembleMember
    metadata: WeightsMetadata
    device: ComputeDevice
    competition: Competition | None
    """None if its file is not here; then masks have no rows."""
    postprocess: Postprocess

    @property
    def images(self) -> ImageReader:
        """Reads images as those of the competition."""
        return ImageReader(self.competition)

    @property
    def mask_suffixes(self) -> list[str]:
        """What distinguishes the mask files of the classes; one empty text for a single class."""
        names = self.metadata.model_classes().names
        return [f"_{re.sub('[^A-Za-z0-9-]+', '-', name)}" for name in names] or [""]

    def predict(self, data: bytes, path: Path, size: Size) -> Tensor:
        """Predict the bytes of one image file, as `pipeline.inference.stream.predict_probabilities` does.

        Args:
            data: the file.
            path: for messages.
            size: (width, height) of the result; that of the image gives native size.

        Returns:
            (classes, h, w) float32 on the device, 0 to 1.

        Raises:
            UserError: the file cannot be decoded, or does not fit into the memory of the GPU.
        """
        image = self.images.decode(data, path, self.member.recipe.model_size)
        with self.explain_out_of_memory():
            small = self.member.ensemble(torch.from_numpy(image.transpose(2, 0, 1)[None]))
            return upsample(small, size[::-1])[0]

    def explain_out_of_memory(self) -> contextlib.AbstractContextManager[None]:
        """Turn an out-of-memory error of a GPU into a UserError that says how to predict without one."""
        return explain_out_of_memory(self.weights[0], 1, PREDICT_ON_CPU)

    def rows(self, file_name: str, masks: np.ndarray) -> Iterable[tuple[str, int, str]]:
        """Encode masks (classes, h, w) bool as the (id, index of the class, RLE) rows of a submission.

        The id is made of the file's name as the competition makes it, or is the name without its suffix. Without the
        competition's file there are no rows.
        """
        if self.competition is None:
            return []
        id, rows = _row_id(self.competition, file_name), RowEncoder(self.competition, self.postprocess).encode(masks)
        return [(id, class_index, rle) for class_index, rle in rows]


def load_image_model(source: Path, threshold: float | None = None) -> ImageModel:
    """Load the weights that a path stands for.

    Args:
        source: a weights file, a run, a runs folder, whose folds are averaged, or an ONNX file of `make export`.
        threshold: threshold of the probability; the recipe's if None.

    Raises:
        UserError: there are no weights, or they cannot be read.
    """
    if source.suffix == ".onnx":
        return _load_onnx(source, threshold)
    weights = find_weights(source)
    recipe, metadata = read_weights_metadata(weights[0])
    log.info("%s: recipe %s, %s, commit %s", source, recipe.name, metadata.competition, metadata.commit or "unknown")
    device = choose_device(recipe.train.prediction_precision)
    member, _ = load_ensemble_member(weights, device)
    return _with_competition(weights, member, metadata, device, threshold)


def _load_onnx(source: Path, threshold: float | None) -> ImageModel:
    ensemble = OnnxEnsemble(source)
    member = EnsembleMember(ensemble, ensemble.recipe)
    return _with_competition([source], member, ensemble.metadata, ensemble.device, threshold)


def _with_competition(
    weights: list[Path],
    member: EnsembleMember,
    metadata: WeightsMetadata,
    device: ComputeDevice,
    threshold: float | None,
) -> ImageModel:
    recipe = member.recipe
    try:
        competition = load_competition(metadata.competition)
    except UserError as error:
        competition = None
        log.warning("%s; masks may be empty, and no run-length encoding is written", error)
    postprocess = _postprocess(metadata, competition, recipe.predict.threshold if threshold is None else threshold)
    return ImageModel(weights, member, metadata, device, competition, postprocess)


def _postprocess(metadata: WeightsMetadata, competition: Competition | None, threshold: float) -> Postprocess:
    classes = metadata.model_classes()
    may_be_empty = competition is None or competition.masks.may_be_empty
    zeros = (0.0,) * classes.count
    return Postprocess((threshold,) * classes.count, zeros, may_be_empty=may_be_empty, exclusive=classes.exclusive)


def _row_id(competition: Competition, file_name: str) -> str:
    stem = Path(file_name).stem
    try:
        return fill(competition.images.id, {"name": file_name, "stem": stem, "id": stem})
    except KeyError:  # the id is made of folders, and a single file has none
        return stem
