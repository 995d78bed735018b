"""Read the images of a competition as the model takes them: channels, scaling, neighboring slices, windows.

Images of 8 bits in RGB, the usual case, go to `pipeline.data.images` unchanged. Everything else is decoded to the
values of its file first, which a stated range maps to 0 to 255.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from pipeline.competition import Competition
from pipeline.data.dicom import decode_dicom, is_dicom
from pipeline.data.images import (
    MAX_PIXELS,
    decode_image,
    image_size,
    image_to_array,
    open_image,
    read_bytes,
    resize_image,
)
from pipeline.data.masks import Size
from pipeline.data.samples import Sample
from pipeline.data.tiff import TiffPixels, decode_tiff, is_tiff, tiff_size
from pipeline.data.values import scale_values
from pipeline.data.windows import Window
from pipeline.errors import UserError

_MAX_WINDOWED_PIXELS = 10_000_000_000
"""Pixels of the largest image that is read in windows: 100,000 × 100,000. A file of some bytes can claim more."""
_OPEN_FILES = 128
"""Files that stay open for windows. A stack of slices has one file per channel."""
_DECODED_BYTES = 2_000_000_000
"""Bytes of the decoded files of other kinds that one reader keeps in memory."""
_DEEP_MODES = ("I", "F")
"""First letters of Pillow's modes with more than 8 bits."""


class ImageReader:
    """Read the images of a competition.

    Args:
        competition: its ``[images]`` and ``[windows]`` tables are used; without one, images are RGB of 8 bits.
    """

    def __init__(self, competition: Competition | None = None) -> None:
        config = competition.images if competition else None
        self.channels = config.num_channels if config else 3
        self.is_rgb = config is None or config.is_rgb
        self.range = config.range if config else None
        self.has_slices = config is not None and config.slices is not None
        self.is_plain = self.is_rgb and self.range is None
        self.in_windows = competition is not None and competition.windows is not None
        self._files = _OpenFiles()

    def read(self, sample: Sample, size: Size | None = None) -> np.ndarray:
        """Read the image of a sample; see `read_sizes`."""
        return self.read_sizes(sample, [size])[0]

    def read_sizes(
        self,
        sample: Sample,
        sizes: Sequence[Size | None],
        on_damage: Callable[[str], None] | None = None,
    ) -> list[np.ndarray]:
        """Read the files of a sample once and return its image at several sizes.

        Args:
            sample: the sample.
            sizes: (width, height) of each result; None keeps that of the image.
            on_damage: see `pipeline.data.images.decode_image`. With it, the nearest slice takes the place of a neighbor
                that cannot be read, and it is called with the reason.

        Returns:
            For each size (h, w, channels) uint8.

        Raises:
            UserError: a file cannot be read, has other channels, differs in size from its neighbors, or has more than
                8 bits and no range, neither ``images.range`` nor one in its header. RGB images need a range only in
                windows.
        """
        if self.is_plain:
            data = read_bytes(sample.image)
            return [decode_image(data, sample.image, size, on_damage) for size in sizes]
        if sample.slices:
            image = _stack(self._decode_slices(sample, on_damage), sample.slices)
        else:
            self._require_one_file(sample.image)
            image = self._decode(read_bytes(sample.image), sample.image, self.channels, on_damage)
        return [image if size is None else resize_image(image, size) for size in sizes]

    def size(self, sample: Sample) -> Size:
        """Return the (width, height) of the image of a sample.

        It is read from the header. In windows, files that are no TIFF are decoded for it, and stay in memory.

        Raises:
            UserError: the file is missing, not an image, or too large to be read.
        """
        path = sample.image
        if self.in_windows:
            return self._files.size(path)
        return tiff_size(path) if is_tiff(path) and not self.is_plain else image_size(path)

    def decode(self, data: bytes, path: Path, size: Size | None = None) -> np.ndarray:
        """Decode the bytes of one file that belongs to no sample: (h, w, channels) uint8.

        Raises:
            UserError: see `read_sizes`; or the channels are slices, which one file does not have.
        """
        if self.is_plain:
            return decode_image(data, path, size)
        self._require_one_file(path)
        image = self._decode(data, path, self.channels)
        return image if size is None else resize_image(image, size)

    def read_window(self, sample: Sample, window: Window) -> np.ndarray:
        """Read a part of an image without the rest: (h, w, channels) uint8.

        Args:
            sample: the sample.
            window: the part, in pixels of the file; it lies inside the image.

        Raises:
            UserError: see `read_sizes`; or the window leaves the image.
        """
        paths = sample.slices or (sample.image,)
        channels = 1 if self.has_slices else self.channels
        parts = [(*self._files.read(path, window), path) for path in paths]
        return _stack([self._scale(values, path, shown, channels) for values, shown, path in parts], paths)

    def _require_one_file(self, path: Path) -> None:
        """Raise a UserError for a single file if the channels are slices."""
        if self.has_slices:
            what = f"is one slice, and the network takes {self.channels}"
            raise UserError(path, what, "predict it in its folder with `make predict`")

    def _decode(
        self, data: bytes, path: Path, channels: int, on_damage: Callable[[str], None] | None = None
    ) -> np.ndarray:
        values, shown = decode_values(data, path, on_damage)
        return self._scale(values, path, shown, channels)

    def _decode_slices(self, sample: Sample, on_damage: Callable[[str], None] | None) -> list[np.ndarray]:
        decoded: dict[int, np.ndarray] = {}
        for number, path in enumerate(sample.slices):
            try:
                decoded[number] = self._decode(read_bytes(path), path, 1, on_damage)
            except UserError as error:
                if on_damage is None or path == sample.image:
                    raise
                on_damage(f"its neighbor {path.name} {error.what}; the nearest slice is used instead")
        if not decoded:
            raise UserError(sample.image, "has no slice that can be read", "download its volume again")
        nearest = [min(decoded, key=lambda other: abs(other - number)) for number in range(len(sample.slices))]
        return [decoded[number] for number in nearest]

    def _scale(self, values: np.ndarray, path: Path, shown: tuple[float, float] | None, channels: int) -> np.ndarray:
        """Map values (h, w, c) to (h, w, channels) uint8."""
        limits = self.range or shown
        if values.dtype != np.uint8 and limits is None:
            what = f"has values of {8 * values.dtype.itemsize} bits"
            raise UserError(path, what, "state images.range = [lowest, highest], which become 0 and 255")
        if limits is not None and (values.dtype != np.uint8 or limits != (0, 255)):
            values = scale_values(values, limits)
        found = values.shape[-1]
        if found == channels:
            return values
        if found == 1 and channels == 3:
            return np.repeat(values, 3, axis=-1)
        if found == 3 and channels == 1:
            return cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_RGB2GRAY)[..., None]
        if found == 4 and channels == 3:
            return np.ascontiguousarray(values[..., :3])  # without the alpha channel
        what = f"has {found} channels, and images.channels is {channels}"
        raise UserError(path, what, "correct images.channels, or images.slices if each file is one channel")


def decode_values(
    data: bytes, path: Path, on_damage: Callable[[str], None] | None = None
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Decode the bytes of an image file to the values that it holds; the reader is chosen by the file's ending.

    Args:
        data: the bytes.
        path: its name decides; also for messages.
        on_damage: see `pipeline.data.images.decode_image`.

    Returns:
        (h, w, c) of the file's own type, c = 1 for a gray image; and the range (low, high) that its header says to
        show, or None. Only images of 8 bits are turned upright.

    Raises:
        UserError: the file is damaged, too large, or of a kind that needs a package that is not installed.
    """
    if is_dicom(path):
        return decode_dicom(data, path, MAX_PIXELS)
    if is_tiff(path):
        return decode_tiff(data, path, MAX_PIXELS), None
    with open_image(data, path) as pil_image:
        mode, is_gray = pil_image.mode, pil_image.mode in ("L", "1", "LA")
        if mode.startswith(_DEEP_MODES):
            return _array(image_to_array(pil_image)), None
        if pil_image.format == "PNG" and data[24] == 16:
            # Pillow would keep the higher 8 bits of each color.
            values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if values is None:
                raise ValueError("its pixels cannot be decoded")
            return (_array(values) if values.ndim == 2 else cv2.cvtColor(values[..., :3], cv2.COLOR_BGR2RGB)), None
    image = decode_image(data, path, on_damage=on_damage)
    return (image[..., :1] if is_gray else image), None


def _array(values: np.ndarray) -> np.ndarray:
    return values[..., None] if values.ndim == 2 else values


def _stack(parts: Sequence[np.ndarray], paths: Sequence[Path]) -> np.ndarray:
    for part, path in zip(parts, paths, strict=True):
        if part.shape[:2] != parts[0].shape[:2]:
            what = f"is {part.shape[1]}×{part.shape[0]}, but {paths[0].name} is {parts[0].shape[1]}×{parts[0].shape[0]}"
            raise UserError(path, what, "give all slices of an image the same size")
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


class _Pixels(Protocol):
    """The pixels of an open file."""

    size: Size
    shown: tuple[float, float] | None
    """The range that the header of the file says to show."""
    nbytes: int
    """Memory that it holds."""

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Read a window: (height, width, channels)."""

    def close(self) -> None:
        """Close the file."""


class _DecodedPixels:
    """The pixels of a file that can only be decoded as a whole; they stay in memory."""

    def __init__(self, path: Path) -> None:
        self._values, self.shown = decode_values(read_bytes(path), path)
        self.size = (self._values.shape[1], self._values.shape[0])
        self.nbytes = self._values.nbytes

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Cut out a window."""
        return self._values[top : top + height, left : left + width]

    def close(self) -> None:
        """Do nothing."""


class _OpenFiles:
    """Files that stay open between windows; the ones used least recently are closed.

    A file that was opened before a fork is opened again: processes that share it would move each other's position.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[Path, _Pixels] = OrderedDict()
        self._process = os.getpid()
        self._lock = threading.Lock()

    def size(self, path: Path) -> Size:
        """Return the (width, height) of a file."""
        with self._lock:
            return self._open(path).size

    def read(self, path: Path, window: Window) -> tuple[np.ndarray, tuple[float, float] | None]:
        """Read a window of a file: (height, width, channels) of its own type, and the range to show."""
        with self._lock:
            pixels = self._open(path)
            width, height = pixels.size
            if window.left + window.width > width or window.top + window.height > height:
                what = f"is {width}×{height}, and the window {tuple(window)} leaves it"
                raise UserError(path, what, "give all slices of an image the same size")
            values = pixels.read(*window)
            self._close_oldest()  # the first window may have decoded the whole file
            return values, pixels.shown

    def _open(self, path: Path) -> _Pixels:
        if self._process != os.getpid():
            self._files, self._process = OrderedDict(), os.getpid()
        if path not in self._files:
            pixels: _Pixels = TiffPixels(path, path) if is_tiff(path) else _DecodedPixels(path)
            width, height = pixels.size
            if width * height > _MAX_WINDOWED_PIXELS:
                pixels.close()
                what = f"claims {width} × {height} pixels; the limit is {_MAX_WINDOWED_PIXELS // 10**6:,} million"
                raise UserError(path, what, "download it again, or remove it")
            self._files[path] = pixels
        self._files.move_to_end(path)
        self._close_oldest()
        return self._files[path]

    def _close_oldest(self) -> None:
        while len(self._files) > 1 and self._exceeds_limits():
            self._files.popitem(last=False)[1].close()

    def _exceeds_limits(self) -> bool:
        return len(self._files) > _OPEN_FILES or sum(file.nbytes for file in self._files.values()) > _DECODED_BYTES

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Pickle without the files, for a loader's worker that is started anew."""
        return _OpenFiles, ()
