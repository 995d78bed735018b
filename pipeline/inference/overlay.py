"""Predict single images: write the mask, and the mask drawn over the image."""

import logging
from collections.abc import Iterator, Sequence
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
from pipeline.inference.postprocess import binarize
from pipeline.inference.stream import predict_probabilities
from pipeline.models.checkpoint import read_weights_metadata
from pipeline.models.device import choose_device
from pipeline.paths import find_weights

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def write_overlays(source: Path, images: Sequence[Path], out: Path, threshold: float | None = None) -> Iterator[Path]:
    """Predict images of any size and write ``<name>_mask.png`` (0 and 255) and ``<name>_overlay.jpg``.

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
    threshold = member.recipe.predict.threshold if threshold is None else threshold
    may_be_empty = _may_be_empty(metadata.competition)
    names = unique_names(files)
    samples = [Sample(id=name, image=file, mask=None, group=name) for name, file in zip(names, files, strict=True)]
    for item in predict_probabilities([member], samples):
        mask = binarize(item.mean(), threshold, may_be_empty=may_be_empty).cpu().numpy()
        with atomic_write(out / f"{item.sample.id}_mask.png") as temporary:
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary)
        path = out / f"{item.sample.id}_overlay.jpg"
        with atomic_write(path) as temporary:
            Image.fromarray(draw_overlay(read_image(item.sample.image), mask)).save(temporary, quality=92)
        yield path


def _may_be_empty(competition: str) -> bool:
    """Return the rule of the competition that weights were trained for; True if its file is not here."""
    try:
        return load_competition(competition).masks.may_be_empty
    except UserError:
        return True


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
