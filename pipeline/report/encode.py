"""Pictures of one image for a gallery, as data URIs: photo, errors over it, the worst place, index per pixel."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.data.images import image_size, read_image, resize_by_area, resize_image
from pipeline.data.masks import Size
from pipeline.report.views import OTHER, PREDICTED, TRUTH, View, index_masks, pixels_with, view_layers

GRAY_STEP = 32
"""Gray value per step of an index: the palette of an index map is opaque, so that a canvas reads it exactly."""
LEVELS = (85, 170, 255)
"""Opacities of an overlay: a pixel that covers few wrong pixels is fainter, but never invisible."""
GAIN = 4.0
"""Factor on the covered fraction of opaque colors, or thin errors would vanish at the size of a card."""


@dataclass(frozen=True)
class EncodeOptions:
    """Sizes and qualities of the pictures."""

    photo_width: int
    """Width of the photo if it is 3:2; other photos get as many pixels."""
    quality: int
    """Of WebP, 0 to 100."""
    crop_width: int = 160
    """Width of the enlarged place in pixels of the photo; 0 for none."""
    map_pixels: int = 4_000_000
    """Index maps with more pixels are made smaller."""
    effort: int = 4
    """Of WebP, 0 (fast) to 6 (small)."""


@dataclass(frozen=True)
class EncodedImage:
    """Pictures of one image, each a data URI."""

    size: Size
    """(width, height) of the masks."""
    pictures: dict[str, str]
    """photo, overlay, and perhaps crop and crop_overlay."""
    box: tuple[int, int, int, int] | None
    """x, y, width and height of the crop in pixels of the masks."""
    maps: list[tuple[str, str]] = field(default_factory=list)
    """(name of the class, index map) of each class that has pixels."""
    missed: int = 0
    added: int = 0

    @property
    def bytes(self) -> int:
        """Size of all pictures in a page."""
        return sum(map(len, self.pictures.values())) + sum(len(uri) for _, uri in self.maps)


def encode_image(
    path: Path, masks: Sequence[np.ndarray | None], view: View, classes: Sequence[str], options: EncodeOptions
) -> EncodedImage:
    """Encode one image.

    Args:
        path: the photo.
        masks: true, predicted and other masks, (classes, h, w) bool of one shape, or None; at least one is given.
        view: what is painted over the photo; without an opaque fill, no place is enlarged.
        classes: names of the classes; empty for a single class.
        options: sizes and qualities.

    Raises:
        UserError: the photo cannot be read.
    """
    names = classes or ("",)
    indexes = [index_masks(*(None if mask is None else mask[number] for mask in masks)) for number in range(len(names))]
    height, width = indexes[0].shape
    layers = view_layers(view, indexes)
    photo_size = _fit(image_size(path), options.photo_width)
    marks = [mask for mask, _, opacity in view_layers(replace(view, outlines=()), indexes) if opacity == 1]
    box = _densest_place(marks, options.crop_width) if options.crop_width and marks else None
    pictures = {}
    if box and photo_size[0] < 0.75 * width:
        whole = read_image(path)
        photo = resize_image(whole, photo_size)
        pictures["crop"] = _webp(_crop_photo(whole, box, (width, height)), max(60, options.quality), options.effort)
        x, y, w, h = box
        parts = [(mask[y : y + h, x : x + w], color, opacity) for mask, color, opacity in layers]
        pictures["crop_overlay"] = _overlay(parts, (w, h))
    else:  # the photo is in the page as it is
        photo, box = read_image(path, photo_size), None
    pictures["photo"] = _webp(photo, options.quality, options.effort)
    pictures["overlay"] = _overlay(layers, _fit((width, height), min(240, photo_size[0])))
    missed, added = 0, 0
    if masks[0] is not None:
        missed, added = (
            sum(int(np.count_nonzero(pixels_with(index, (bit, bit | OTHER)))) for index in indexes)
            for bit in (TRUTH, PREDICTED)
        )
    maps = [
        (name, _index_png(index, options.map_pixels)) for name, index in zip(names, indexes, strict=True) if index.any()
    ]
    return EncodedImage((width, height), pictures, box, maps, missed, added)


def _fit(size: Size, width: int) -> Size:
    """Return `size`, reduced to as many pixels as a 3:2 picture of `width` has."""
    scale = min(1.0, (width * width * 2 / 3 / (size[0] * size[1])) ** 0.5)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _densest_place(marks: Sequence[np.ndarray], crop_width: int) -> tuple[int, int, int, int]:
    """Return x, y, width, height of the place with the most marked pixels."""
    height, width = marks[0].shape
    w = min(crop_width, width)
    h = min(height, max(1, round(w * height / width)))
    cells = -(-width // 8), -(-height // 8)
    density = np.logical_or.reduce(marks).astype(np.float32)
    density = cv2.resize(density, cells, interpolation=cv2.INTER_AREA)
    density = cv2.blur(density, (max(1, w // 8), max(1, h // 8)), borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(int(density.argmax()), density.shape)
    x, y = int(column) * 8 + 4 - w // 2, int(row) * 8 + 4 - h // 2
    return min(max(x, 0), width - w), min(max(y, 0), height - h), w, h


def _crop_photo(photo: np.ndarray, box: tuple[int, int, int, int], size: Size) -> np.ndarray:
    """Cut a box in pixels of the masks out of a photo, which may be larger than they are."""
    x, y, w, h = box
    across, down = photo.shape[1] / size[0], photo.shape[0] / size[1]
    return photo[round(y * down) : round((y + h) * down), round(x * across) : round((x + w) * across)]


def _overlay(layers: Sequence[tuple[np.ndarray, tuple[int, int, int], float]], size: Size) -> str:
    """Draw layers as a small PNG with a palette."""
    drawn = np.zeros(size[::-1], dtype=np.uint8)
    palette, alphas = [0, 0, 0], [0]
    for number, (mask, color, opacity) in enumerate(layers[:5]):
        covered = resize_by_area(mask.astype(np.uint8) * np.uint8(255), size).astype(np.float32) / 255
        if opacity == 1:
            level = np.digitize(np.minimum(1, GAIN * covered), (0.04, 0.4, 0.7))
        else:
            level = (covered >= 0.5).astype(np.int64)
        drawn = np.where(level > 0, 3 * number + level, drawn).astype(np.uint8)
        palette += 3 * color
        alphas += LEVELS if opacity == 1 else [round(255 * opacity)] * 3
    return _png(drawn, palette, bytes(alphas), bits=4)


def _index_png(index: np.ndarray, max_pixels: int) -> str:
    """Draw an index per pixel as a PNG with opaque grays; a smaller one keeps one of the indexes of each place."""
    if index.size > max_pixels:
        factor = int(np.ceil((index.size / max_pixels) ** 0.5))
        index = np.ascontiguousarray(index[::factor, ::factor])
    bits = 2 if index.max() < 4 else 4
    return _png(index, [value for step in range(2**bits) for value in [min(255, GRAY_STEP * step)] * 3], None, bits)


def _png(values: np.ndarray, palette: list[int], alphas: bytes | None, bits: int) -> str:
    image = Image.fromarray(values)
    image.putpalette(palette)
    buffer = io.BytesIO()
    transparency = {} if alphas is None else {"transparency": alphas}
    image.save(buffer, "PNG", bits=bits, compress_level=9 if values.size < 500_000 else 7, **transparency)
    return _data_uri("image/png", buffer.getvalue())


def _webp(image: np.ndarray, quality: int, effort: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=effort)
    return _data_uri("image/webp", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
