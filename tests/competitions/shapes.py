"""Images with objects that a small network can learn, and an independent encoder for their masks."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.masks import Size


def ellipse_mask(size: Size, center: Sequence[float], radius: Sequence[float]) -> np.ndarray:
    """Draw one ellipse: (h, w) bool."""
    width, height = size
    y, x = np.ogrid[:height, :width]
    return ((x - center[0]) / radius[0]) ** 2 + ((y - center[1]) / radius[1]) ** 2 < 1


def box_mask(size: Size, center: Sequence[float], radius: Sequence[float]) -> np.ndarray:
    """Draw one upright rectangle: (h, w) bool."""
    width, height = size
    y, x = np.ogrid[:height, :width]
    return (abs(x - center[0]) < radius[0]) & (abs(y - center[1]) < radius[1])


def separate_objects(rng: np.random.Generator, size: Size, count: int, radius: tuple[float, float]) -> list[np.ndarray]:
    """Draw up to `count` ellipses that do not touch, with radii from a range of fractions of the height."""
    taken, objects = np.zeros(size[::-1], dtype=bool), []
    for _ in range(20 * count):
        if len(objects) == count:
            break
        r = rng.uniform(*radius, 2) * size[1]
        center = rng.uniform(r + 1, np.array(size) - r - 1)
        if not (taken & ellipse_mask(size, center, r + 3)).any():
            objects.append(ellipse_mask(size, center, r))
            taken |= objects[-1]
    return objects


def paint(
    rng: np.random.Generator, size: Size, objects: Sequence[tuple[np.ndarray, tuple[int, int, int]]]
) -> np.ndarray:
    """Paint objects with their colors on a gray, noisy background: (h, w, 3) uint8."""
    width, height = size
    image = np.full((height, width, 3), 90.0)
    for mask, color in objects:
        image[mask] = color
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def independent_rle(mask: np.ndarray, order: str, base: int = 1) -> str:
    """Encode a mask by a search for runs of ones in its bytes, independently of `pipeline.data.rle`."""
    pixels = mask.astype(bool).tobytes(order="C" if order == "row" else "F")
    return " ".join(f"{run.start() + base} {len(run[0])}" for run in re.finditer(b"\x01\x01*", pixels))


def relative_rle(mask: np.ndarray) -> str:
    """Encode a mask down the columns, each start counted from the end of the run before it; the first pixel is 0."""
    numbers, end = [], 0
    for run in re.finditer(b"\x01\x01*", mask.astype(bool).tobytes(order="F")):
        numbers += [run.start() - end, len(run[0])]
        end = run.end()
    return " ".join(map(str, numbers))


def save_image(image: np.ndarray, path: Path) -> None:
    """Write an RGB image; JPEG with high quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV by hand: none of the fields needs quotes."""
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in [header, *rows]))
