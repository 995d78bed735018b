"""Predict single images: write the mask, its run-length encoding, and the mask drawn over the image."""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.draw import draw_overlay
from pipeline.data.images import IMAGE_SUFFIXES, read_image
from pipeline.data.mask_csv import write_mask_csv
from pipeline.data.row_format import submission_format
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.files import atomic_write
from pipeline.inference.image_model import ImageModel, load_image_model
from pipeline.inference.postprocess import binarize
from pipeline.inference.stream import Prediction, predict_probabilities


def write_overlays(source: Path, images: Sequence[Path], out: Path, threshold: float | None = None) -> Iterator[Path]:
    """Predict images of any size and write their masks.

    Writes ``<name>_mask.png`` (0 and 255; one per class), ``<name>_rle.csv`` (the same masks as rows of a submission,
    at the size of the image) and ``<name>_overlay.jpg``.

    Args:
        source: a weights file, a run, or a runs folder, whose folds are averaged.
        images: files, and folders whose images are taken.
        out: folder of the results; created if missing.
        threshold: threshold of the probability; the recipe's if None.

    Yields:
        The path of each overlay once it is written.

    Raises:
        UserError: there are no weights or no images, or a file cannot be decoded.
    """
    files = list_images(images)
    model = load_image_model(source, threshold)
    if model.competition:
        model.competition.require_whole_images("make overlay")
    names = unique_names(files)
    samples = [Sample(id=name, image=file, group=name) for name, file in zip(names, files, strict=True)]
    with model.explain_out_of_memory():
        yield from _write_each(predict_probabilities([model.member], samples, images=model.images), model, out)


def _write_each(predictions: Iterable[Prediction], model: ImageModel, out: Path) -> Iterator[Path]:
    for item in predictions:
        masks = binarize(item.mean(), model.postprocess).cpu().numpy()
        for suffix, mask in zip(model.mask_suffixes, masks, strict=True):
            with atomic_write(out / f"{item.sample.id}_mask{suffix}.png") as temporary:
                temporary.write_bytes(mask_png(mask))
        if model.competition is not None:
            rows = model.rows(item.sample.image.name, masks)
            write_mask_csv(out / f"{item.sample.id}_rle.csv", submission_format(model.competition), rows)
        path = out / f"{item.sample.id}_overlay.jpg"
        with atomic_write(path) as temporary:
            Image.fromarray(draw_overlay(read_image(item.sample.image), masks)).save(temporary, quality=92)
        yield path


def mask_png(mask: np.ndarray) -> bytes:
    """Encode a mask (h, w) bool as a gray PNG of 0 and 255."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


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
