"""Read TIFF files of any number of channels and bits, whole or by windows, with tifffile and zarr."""

import io
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.optional import explain_decoder
from pipeline.errors import UserError

_SUFFIXES = (".tif", ".tiff")
_WHITE_IS_ZERO = 0
_COLOR_MODELS = {3: "a palette", 5: "CMYK", 8: "CIELAB", 9: "ICCLAB", 10: "ITULAB", 32844: "LogL", 32845: "LogLuv"}
"""Values of the tag PhotometricInterpretation that mean neither gray nor RGB."""
_MAX_PART = 32 * 2**20
"""Bytes of the largest tile or strip that is decoded again for every window that it touches."""
_MAX_DECODED = 2**30
"""Bytes of the largest file with larger strips, which is decoded as a whole."""
_AGAIN = "download the file again, or remove it"


def is_tiff(path: Path) -> bool:
    """Return whether a file is named like a TIFF file."""
    return path.suffix.lower() in _SUFFIXES


class TiffPixels:
    """The pixels of an open TIFF file, read by windows. Not to be shared with a forked process.

    Args:
        source: the file, or its bytes.
        path: for messages.

    Attributes:
        size: (width, height).
        shown: None, because TIFF files do not say which values to show.
        nbytes: memory that the pixels hold; 0 as long as they stay in the file.

    Raises:
        UserError: tifffile or zarr is not installed, or the file is damaged, is neither gray nor RGB, or has other axes
            than rows, columns and at most one of channels. The pages of a stack of gray images are channels.
    """

    def __init__(self, source: Path | bytes, path: Path) -> None:
        self.path = path
        self.shown: tuple[float, float] | None = None
        self.nbytes = 0
        with explain_decoder(path, "TIFF"):
            import tifffile
            import zarr

            self._open_array = zarr.open_array
            self._file = tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source)
            try:
                self._series = self._file.series[0]
                self._examine(self._series)
            except BaseException:
                self._file.close()
                raise

    def _examine(self, series: Any) -> None:
        """Find the axes of the rows, columns and channels; refuse missing parts and unknown color models."""
        # An axis that is neither row nor column and longer than 1 holds the channels. Letters can occur twice.
        axes, shape = series.axes, series.shape
        others = [number for number, axis in enumerate(axes) if axis not in "YX" and shape[number] > 1]
        if axes.count("Y") != 1 or axes.count("X") != 1 or len(others) > 1:
            raise ValueError(f"its axes are {axes} with the lengths {list(shape)}")
        self._row, self._column, self._channel = axes.index("Y"), axes.index("X"), others[0] if others else None
        self._axes = len(axes)
        self.size = (shape[self._column], shape[self._row])
        if min(self.size) < 1:
            raise ValueError(f"it claims {self.size[0]} × {self.size[1]} pixels")
        # tifffile would fill parts that are missing with zeros.
        if any(page is None for page in series.pages):
            raise UserError(self.path, "lacks pages", _AGAIN)
        lengths = [length for page in series.pages for length in page.databytecounts]
        if empty := lengths.count(0):
            raise UserError(self.path, f"lacks {empty:,} of its {len(lengths):,} tiles or strips", _AGAIN)
        photometric = series.pages[0].photometric
        if photometric in _COLOR_MODELS:
            what = f"has {_COLOR_MODELS[photometric]} instead of gray or RGB values"
            raise UserError(self.path, what, "convert it to gray or RGB")
        self._highest = None
        if photometric == _WHITE_IS_ZERO and series.dtype.kind in "bu":
            bits = series.pages[0].bitspersample
            self._highest = 255 if series.dtype.kind == "b" else 2**bits - 1

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Read a window that lies inside the image: (height, width, channels) of the file's type."""
        index: list[slice | int] = [0] * self._axes
        index[self._row], index[self._column] = slice(top, top + height), slice(left, left + width)
        axes = [self._row, self._column]
        if self._channel is not None:
            index[self._channel] = slice(None)
            axes.append(self._channel)
        with explain_decoder(self.path, "TIFF"):
            values = np.asarray(self._array[tuple(index)])
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype == bool:  # files of 1 bit
            values = values.astype(np.uint8) * 255
        if self._highest is not None:
            values = (self._highest - values).astype(values.dtype)
        kept = sorted(axes)
        values = values.transpose([kept.index(axis) for axis in axes])
        return np.ascontiguousarray(values if self._channel is not None else values[..., None])

    @cached_property
    def _array(self) -> Any:
        """The array of which windows are read: mapped if it is not compressed, or else decoded part by part."""
        series, from_file = self._series, self._file.filehandle.is_file
        if from_file and series.dataoffset is not None:
            dtype = series.dtype.newbyteorder(self._file.byteorder)
            return np.memmap(self.path, dtype, "r", series.dataoffset, series.shape)
        array = self._open_array(series.aszarr(level=0, read_only=True), mode="r")
        if not from_file or math.prod(array.chunks) * series.dtype.itemsize <= _MAX_PART:
            return array
        whole = math.prod(series.shape) * series.dtype.itemsize
        if whole > _MAX_DECODED:
            what = f"has compressed strips of {array.chunks[self._column]} × {array.chunks[self._row]} pixels"
            raise UserError(self.path, what, "convert it to a TIFF file with tiles, to read windows of it")
        self.nbytes = whole
        return series.asarray()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def tiff_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of a TIFF file from its header.

    Raises:
        UserError: see `TiffPixels`.
    """
    pixels = TiffPixels(path, path)
    pixels.close()
    return pixels.size


def decode_tiff(data: bytes, path: Path, max_pixels: int) -> np.ndarray:
    """Decode a TIFF file: (h, w, c) of its own type.

    Args:
        data: the bytes of the file.
        path: for messages.
        max_pixels: number of pixels of the largest image that is decoded.

    Raises:
        UserError: it has more than `max_pixels` pixels; see `TiffPixels`.
    """
    pixels = TiffPixels(data, path)
    try:
        width, height = pixels.size
        if width * height > max_pixels:
            what = f"claims {width} × {height} pixels; the limit is {max_pixels // 10**6} million"
            raise UserError(path, what, "state [windows] in the competition's file, or remove it")
        return pixels.read(0, 0, width, height)
    finally:
        pixels.close()
