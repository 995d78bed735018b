"""Read masks, resize them, measure them."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.images import DECODER_ERRORS, read_bytes, resize_image
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.host import available_cores


def measure_mask_areas(samples: Sequence[Sample], competition: Competition) -> list[float]:
    """The covered share of each image, 0 to 1, in the order of `samples`."""

    def area(sample: Sample) -> float:
        assert sample.mask is not None
        return float(read_mask(sample.mask, competition.masks.positive).mean())

    pool = ThreadPoolExecutor(available_cores())
    try:
        return list(tqdm(pool.map(area, samples), total=len(samples), desc="mask areas", unit="img"))
    finally:
        pool.shutdown(cancel_futures=True)  # after a broken mask, the others are not waited for


def read_mask(path: Path, positive: int | str) -> np.ndarray:
    """Read a mask at its own size.

    Args:
        path: a GIF, PNG or other lossless file; of a palette image the indices count, not the colours.
        positive: 1 or 255, the value of the object beside 0, or "nonzero" for any.

    Returns:
        (height, width) bool.

    Raises:
        UserError: the file cannot be decoded, has colours, or has values other than 0 and `positive`.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(path))) as picture:
            values = np.asarray(picture)
            mode = picture.mode
    except DECODER_ERRORS as error:
        raise UserError(path, f"cannot be decoded ({error})", "fetch the file again, or remove it") from None
    if values.ndim == 3:
        # Masks saved as RGB or RGBA: equal channels are a grayscale picture in disguise, an alpha channel says nothing.
        colours = values[..., :1] if mode == "LA" else values[..., :3]
        if (colours != colours[..., :1]).any():
            raise UserError(path, "is a colour picture, not a mask", "save it with one channel")
        values = colours[..., 0]
    mask = values != 0
    if mode == "1" or positive == "nonzero":
        return mask
    if (mask & (values != positive)).any():
        found = ", ".join(map(str, np.unique(values)[:6]))
        # The usual mistake gets its own mend.
        other = {1: 255, 255: 1}[int(positive)]
        fix = f"set masks.positive = {other}" if found in (str(other), f"0, {other}") else "save it without smoothing"
        raise UserError(path, f"mask values are {{{found}}}", f"expected {{0, {positive}}}: {fix}")
    return mask


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink a mask softly for training.

    Args:
        mask: (height, width) bool.
        size: (width, height).

    Returns:
        (height, width) uint8: 255 × the share of each new pixel that the mask covers. Rounding it to 0 or 1 instead
        would limit the Dice at native size to 0.998 at half scale.
    """
    return resize_image(mask.astype(np.uint8) * 255, size)
