"""One photo, several, or a folder of them: the mask, and the mask laid over the photo."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.competition import Sample
from pipeline.data import draw
from pipeline.data.images import read_image
from pipeline.errors import UserError
from pipeline.files import atomic
from pipeline.model.checkpoint import read_origin
from pipeline.model.device import choose
from pipeline.predict.ensemble import load_member
from pipeline.predict.stream import probabilities

log = logging.getLogger(__name__)

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def write_overlays(source: Path, pictures: Sequence[Path], out: Path, threshold: float | None = None) -> Iterator[Path]:
    """Predict photos of any size and write `<name>_mask.png` (0 and 255) and `<name>_overlay.jpg`.

    Args:
        source: a weights file, the folder of a run, or a folder of runs, whose mean is taken.
        pictures: files, and folders whose pictures are taken.
        out: where results go; made if missing.
        threshold: of the probability; the recipe's if None.

    Yields:
        The overlay of each photo, once it is written.

    Raises:
        UserError: nothing trained at `source`, no picture, or a file that cannot be decoded.
    """
    files = expand(pictures)
    weights = find_weights(source)
    described, origin = read_origin(weights[0])
    log.info("%s: recipe %s, %s, commit %s", source, described.name, origin.competition, origin.commit or "unknown")
    device = choose(described.train.precision_to_predict)
    member, _ = load_member(weights, device)
    threshold = member.recipe.predict.threshold if threshold is None else threshold
    names = unique_names(files)
    samples = [Sample(id=name, image=file, mask=None, group=name) for name, file in zip(names, files, strict=True)]
    for item in probabilities([member], samples):
        mask = (item.mean() >= threshold).cpu().numpy()
        with atomic(out / f"{item.sample.id}_mask.png") as temporary:
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary)
        path = out / f"{item.sample.id}_overlay.jpg"
        with atomic(path) as temporary:
            Image.fromarray(draw.overlay(read_image(item.sample.image), mask)).save(temporary, quality=92)
        yield path


def find_weights(source: Path) -> list[Path]:
    """The weights files that a path stands for: itself, the one of a run, those of all folds below it, or, where there
    are none, the one that was trained on all images.

    Raises:
        UserError: there are none.
    """
    if source.is_file():
        return [source]
    found = sorted(source.glob("weights.safetensors")) or sorted(source.glob("fold[0-9]*/weights.safetensors"))
    # Folders that were set aside, such as fold0~1, belong to another recipe.
    found = [path for path in found if "~" not in path.parent.name] or sorted(source.glob("all/weights.safetensors"))
    if not found:
        raise UserError(
            f"{source}: holds no weights.safetensors; train with `make train`, or name another checkpoint or run"
        )
    return found


def expand(pictures: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the pictures in them.

    Raises:
        UserError: a path does not exist, or a folder has no picture.
    """
    files: list[Path] = []
    for path in pictures:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
            if not inside:
                raise UserError(f"{path}: holds no picture ({', '.join(PICTURES)})")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder; check the path")
    return files


def unique_names(files: Sequence[Path]) -> list[str]:
    """A name for each file's results: its stem, with a number where two files share one."""
    names: list[str] = []
    for file in files:
        name, number = file.stem, 2
        while name in names:
            name, number = f"{file.stem}-{number}", number + 1
        names.append(name)
    return names
