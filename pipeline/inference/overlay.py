"""Predict single images: write the mask, and the mask drawn over the image."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.competition import load_competition
from pipeline.data.draw import draw_overlay
from pipeline.data.images import read_image
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.files import atomic_write
from pipeline.inference.ensemble import load_ensemble_member
from pipeline.inference.postprocess import Postprocess, binarize
from pipeline.inference.stream import Prediction, predict_probabilities
from pipeline.models.checkpoint import WeightsMetadata, read_weights_metadata
from pipeline.models.device import choose_device, explain_out_of_memory
from pipeline.paths import find_weights

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def write_overlays(source: Path, images: Sequence[Path], out: Path, threshold: float | None = None) -> Iterator[Path]:
    """Predict images of any size and write ``<name>_mask.png`` (0 and 255; one per class) and ``<name>_overlay.jpg``.

    Args:
        source: a weights file, a run, or a runs folder, whose folds are averaged.
        images: files, and folders whose images are taken.
        out: where the results go; created if missing.
        threshold: of the probability; the recipe's if None.

    Yields:
        The path of each overlay once it is written.

    Raises:
        UserError: there are no weights or no images, or a file cannot be decoded.
    """
    files = list_images(images)
    weights = find_weights(source)
    recipe, metadata = read_weights_metadata(weights[0])
    log.info("%s: recipe %s, %s, commit %s", source, recipe.name, metadata.competition, metadata.commit or "unknown")
    device = choose_device(recipe.train.prediction_precision)
    member, _ = load_ensemble_member(weights, device)
    postprocess = _postprocess(metadata, member.recipe.predict.threshold if threshold is None else threshold)
    names = unique_names(files)
    samples = [Sample(id=name, image=file, group=name) for name, file in zip(names, files, strict=True)]
    fix = "predict on the CPU: set CUDA_VISIBLE_DEVICES to an empty text"
    with explain_out_of_memory(weights[0], member.recipe.train.batch_size, fix):
        yield from _write_each(predict_probabilities([member], samples), metadata, postprocess, out)


def _write_each(
    predictions: Iterable[Prediction], metadata: WeightsMetadata, postprocess: Postprocess, out: Path
) -> Iterator[Path]:
    for item in predictions:
        masks = binarize(item.mean(), postprocess).cpu().numpy()
        for suffix, mask in zip(_mask_suffixes(metadata), masks, strict=True):
            with atomic_write(out / f"{item.sample.id}_mask{suffix}.png") as temporary:
                Image.fromarray(mask.astype(np.uint8) * 255).save(temporary)
        path = out / f"{item.sample.id}_overlay.jpg"
        with atomic_write(path) as temporary:
            Image.fromarray(draw_overlay(read_image(item.sample.image), masks)).save(temporary, quality=92)
        yield path


def _postprocess(metadata: WeightsMetadata, threshold: float) -> Postprocess:
    """Return the rules of the competition that weights were trained for, if its file is here."""
    classes = metadata.model_classes()
    try:
        may_be_empty = load_competition(metadata.competition).masks.may_be_empty
    except UserError:
        may_be_empty = True
    zeros = (0.0,) * classes.count
    return Postprocess((threshold,) * classes.count, zeros, may_be_empty=may_be_empty, exclusive=classes.exclusive)


def _mask_suffixes(metadata: WeightsMetadata) -> list[str]:
    """Return what distinguishes the mask files of the classes; nothing for a single class."""
    names = metadata.model_classes().names
    return [f"_{re.sub('[^A-Za-z0-9-]+', '-', name)}" for name in names] or [""]


def list_images(paths: Sequence[Path]) -> list[Path]:
    """List files as they are and folders as the images in them.

    Raises:
        UserError: a path does not exist, or a folder has no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UserError(path, f"has no image ({', '.join(IMAGE_SUFFIXES)})", "name another folder")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(path, "no such file or folder", "check the path")
    return files


def unique_names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file's results: its stem, with a number where several files share one."""
    names: list[str] = []
    for file in files:
        name, number = file.stem, 2
        while name in names:
            name, number = f"{file.stem}-{number}", number + 1
        names.append(name)
    return names
