"""Photos and their masks, kept in memory as the page shows them."""

import gzip
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from pipeline.data.images import decode_image, open_image
from pipeline.data.mask_csv import render_mask_csv
from pipeline.data.masks import Size
from pipeline.data.row_format import submission_format
from pipeline.errors import UserError
from pipeline.inference.image_model import ImageModel
from pipeline.inference.levels import Levels, count_levels
from pipeline.inference.overlay import mask_png

MAX_BYTES = 50_000_000
"""Largest file."""
MAX_PIXELS = 50_000_000
"""Largest photo; a class of it needs 300 MB of memory while it is predicted."""
MAX_STORED = 500_000_000
"""Bytes of all photos together; a Carvana photo with its mask needs 0.5 MB."""
_PREVIEW_PIXELS = 4_000_000
_PREVIEW_SIDE = 4096
"""Larger photos are shown smaller: the page needs about ten bytes of memory per pixel and class. Files are exact."""
_THUMBNAIL_SIDE = 192


@dataclass(frozen=True)
class Photo:
    """One predicted photo."""

    name: str
    """The file's name."""
    preview: bytes
    """JPEG, as the model sees the photo: upright, without transparency."""
    preview_size: Size
    thumbnail: bytes
    shown_counts: bytes
    """gzip of (classes, h, w) uint8, `Levels.counts` at the size of the preview."""
    size: Size
    packed_counts: bytes
    """gzip of `Levels.counts`."""
    thresholds: tuple[float, ...]
    needed: tuple[tuple[int, ...], ...]
    """See `Levels.needed`."""
    areas: list[list[int]]
    """See `Levels.areas`."""
    seconds: float
    """Time of the prediction, decoding included."""

    @property
    def stored_bytes(self) -> int:
        """Bytes in memory."""
        return len(self.preview) + len(self.thumbnail) + len(self.shown_counts) + len(self.packed_counts)

    def masks(self, threshold: float) -> np.ndarray:
        """Return the masks (classes, h, w) bool at one of the thresholds."""
        counts = np.frombuffer(gzip.decompress(self.packed_counts), dtype=np.uint8)
        counts = counts.reshape(-1, self.size[1], self.size[0])
        return Levels(counts, self.thresholds, self.needed).masks(threshold)

    def describe(self) -> dict[str, Any]:
        """Return what the page needs besides the files."""
        return {
            "name": self.name,
            "size": self.size,
            "preview_size": self.preview_size,
            "needed": self.needed,
            "areas": self.areas,
            "seconds": round(self.seconds, 2),
        }


def predict_photo(model: ImageModel, data: bytes, name: str, thresholds: Sequence[float]) -> Photo:
    """Predict the bytes of one file.

    Args:
        model: the model.
        data: the file.
        name: its name.
        thresholds: the thresholds that the page offers, ascending.

    Raises:
        UserError: the file is not a readable photo, or is too large.
    """
    start, path = time.perf_counter(), Path(name)
    if not data:
        raise UserError(name, "is empty", "choose another one")
    with open_image(data, path, MAX_PIXELS):
        pass  # its header is checked before anything is decoded
    image = decode_image(data, path)
    size = (image.shape[1], image.shape[0])
    levels = count_levels(model.predict(data, path, size), thresholds, model.postprocess)
    seconds = time.perf_counter() - start
    shown = preview_size(size)
    packed = _pack(levels.counts)
    shown_counts = packed if shown == size else _pack(_resize_counts(levels.counts, shown))
    preview = cv2.resize(image, shown, interpolation=cv2.INTER_AREA) if shown != size else image
    scale = _THUMBNAIL_SIDE / max(shown)
    small = (max(1, round(shown[0] * scale)), max(1, round(shown[1] * scale)))
    thumbnail = cv2.resize(preview, small, interpolation=cv2.INTER_AREA)
    return Photo(
        name=name,
        preview=simplejpeg.encode_jpeg(np.ascontiguousarray(preview), quality=92),
        preview_size=shown,
        thumbnail=simplejpeg.encode_jpeg(thumbnail, quality=85),
        shown_counts=shown_counts,
        size=size,
        packed_counts=packed,
        thresholds=levels.thresholds,
        needed=levels.needed,
        areas=levels.areas(),
        seconds=seconds,
    )


def preview_size(size: Size) -> Size:
    """Return the (width, height) at which the page shows a photo of `size`."""
    scale = min(1.0, math.sqrt(_PREVIEW_PIXELS / (size[0] * size[1])), _PREVIEW_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _pack(counts: np.ndarray) -> bytes:
    return gzip.compress(counts.tobytes(), 1, mtime=0)


def _resize_counts(counts: np.ndarray, size: Size) -> np.ndarray:
    # The nearest pixel: the mean of two counts would belong to no pixel.
    return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST) for plane in counts])


def render_mask(model: ImageModel, photo: Photo, class_index: int, threshold: float) -> tuple[str, bytes]:
    """Return the name and bytes of the PNG that `make overlay` writes."""
    suffix = model.mask_suffixes[class_index]
    return f"{Path(photo.name).stem}_mask{suffix}.png", mask_png(photo.masks(threshold)[class_index])


def render_rle(model: ImageModel, photo: Photo, threshold: float) -> tuple[str, bytes]:
    """Return the name and bytes of the run-length encoding that `make overlay` writes."""
    assert model.competition is not None
    rows = model.rows(photo.name, photo.masks(threshold))
    return f"{Path(photo.name).stem}_rle.csv", render_mask_csv(submission_format(model.competition), rows)


class PhotoStore:
    """The last photos, as many as fit into `MAX_STORED` bytes."""

    def __init__(self, max_bytes: int = MAX_STORED) -> None:
        self._max_bytes = max_bytes
        self._photos: OrderedDict[str, Photo] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, photo: Photo) -> str:
        """Store a photo, drop the oldest ones where necessary, and return its key, which nobody can guess."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._photos[key] = photo
            total = sum(stored.stored_bytes for stored in self._photos.values())
            while total > self._max_bytes and len(self._photos) > 1:
                total -= self._photos.popitem(last=False)[1].stored_bytes
        return key

    def get(self, key: str) -> Photo | None:
        """Return a photo, or None if it is not stored any more."""
        with self._lock:
            return self._photos.get(key)

    def remove(self, key: str) -> None:
        """Forget a photo."""
        with self._lock:
            self._photos.pop(key, None)
