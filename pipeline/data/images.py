"""Read images: decode files to RGB arrays at the scale that is needed."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, TiffImageFile

from pipeline.data.dicom import SUFFIXES as DICOM_SUFFIXES
from pipeline.data.dicom import decode_dicom, dicom_size, is_dicom
from pipeline.data.values import scale_values
from pipeline.errors import UserError, read_fix

TOLERANCE = 0.98
"""Halve an image if its sides are then at least 0.98 of the requested ones (959 for 960); it is resized afterwards."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", *DICOM_SUFFIXES)
"""Suffixes of the files that are taken from a folder of any images."""
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read. Pillow knows many more, some of which run other programs."""
MAX_PIXELS = 100_000_000
"""Largest image that is decoded. A file of some bytes can claim more, and decoding allocates what it claims."""
_DECODER_FACTORS = (8, 4, 2)
"""Factors by which the JPEG decoder can downsample. It also knows eighths between them, but those are slower than a
full decode: it has vector instructions for powers of two only."""
_MAX_SCANS = 200
"""Most scans of a JPEG; progressive ones have about 10. Each costs a pass over the image, whatever its length."""

# `open_image` compares each size with MAX_PIXELS. Pillow's own limit would print warnings besides.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION = 0x0112  # EXIF tag
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}
"""EXIF orientation -> the view of an upright array in which its pixels are ordered as in the file."""
_STRIP_PIXELS = 2**22
_DIRECT_MODES = ("RGB", "L")


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image of any common format, or a DICOM file.

    Grayscale becomes three equal channels, transparency is blended with white, CMYK is converted, and the EXIF
    orientation is applied. Of more than 8 bits, the brightest value becomes 255, or in a DICOM file the one that its
    header states; `pipeline.data.readers` maps a stated range instead.

    Args:
        path: the file.
        size: (width, height) of the result; None keeps the file's.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, truncated, not an image, or larger than `MAX_PIXELS`.
    """
    return decode_image(read_bytes(path), path, size)


def decode_image(
    data: bytes, path: Path, size: tuple[int, int] | None = None, on_damage: Callable[[str], None] | None = None
) -> np.ndarray:
    """Decode an image from the bytes of a file. See `read_image`.

    Args:
        data: the bytes.
        path: for messages.
        size: see `read_image`.
        on_damage: called with the decoder's warning about a JPEG that can be decoded, but with wrong pixels.
    """
    if is_dicom(path):
        whole = _dicom_to_rgb(data, path)
        return whole if size is None else resize_image(whole, size)
    complaint = None
    image: np.ndarray | None = None
    with open_image(data, path) as pil_image:
        if pil_image.format in ("JPEG", "MPO") and (scans := data.count(b"\xff\xda")) > _MAX_SCANS:
            raise ValueError(f"it has {scans} scans")
        if pil_image.format == "JPEG" and pil_image.mode in _DIRECT_MODES and _orientation(pil_image) == 1:
            try:
                image = _decode_jpeg(data, pil_image.size, size)
            except ValueError as error:
                complaint = str(error)  # of a strict decoder; Pillow's may read the file
        if image is None:
            image = _to_rgb(pil_image)
    if on_damage is not None and complaint is not None and complaint.startswith("Corrupt JPEG data"):
        on_damage(complaint)
    return image if size is None else resize_image(image, size)


def image_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) that `read_image` would return, from the file's header.

    Raises:
        UserError: the file is missing, not an image, or larger than `MAX_PIXELS`.
    """
    if is_dicom(path):
        return dicom_size(path)
    with open_image(path, path) as pil_image:
        return _upright_size(pil_image)


def _dicom_to_rgb(data: bytes, path: Path) -> np.ndarray:
    values, (low, high) = decode_dicom(data, path, MAX_PIXELS)
    if values.dtype != np.uint8 or (low, high) != (0, 255):
        values = scale_values(values, (low, high))
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values


@contextmanager
def open_image(source: bytes | Path, path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image with Pillow; errors of the block count as errors of the file.

    Args:
        source: the bytes of a file, or its path to read the header only.
        path: for messages.
        max_pixels: number of pixels of the largest image that is accepted.

    Yields:
        The image; its pixels are not decoded yet.

    Raises:
        UserError: the file is missing, damaged, of a format that is not one of `FORMATS`, or larger than `max_pixels`.
    """
    verb, again = "decoded" if isinstance(source, bytes) else "opened", "download the file again, or remove it"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as pil_image:
            _require_size(pil_image, path, max_pixels)
            yield pil_image
    except UserError:
        raise
    except UnidentifiedImageError:
        known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise UserError(path, f"cannot be {verb} (it is not {known})", again) from None
    # Pillow's readers raise exceptions of every kind on damaged files.
    except Exception as error:
        raise UserError(path, f"cannot be {verb} ({error or type(error).__name__})", again) from None


def _require_size(pil_image: Image.Image, path: Path, max_pixels: int) -> None:
    width, height = pil_image.size
    if width * height > max_pixels:
        what = f"claims {width} × {height} pixels; the limit is {max_pixels // 10**6} million"
        raise UserError(path, what, "split it into tiles if it is really so large, or remove it")
    if isinstance(pil_image, TiffImageFile) and _covered_rows(pil_image) < pil_image.tag_v2[IMAGELENGTH]:
        # Pillow would fill the rest with black.
        raise ValueError("its strips do not cover it")
    if min(width, height) < 1:
        raise UserError(path, f"claims {width} × {height} pixels", "remove it")


def _covered_rows(pil_image: TiffImageFile) -> int:
    return max((tile.extents[3] for tile in pil_image.tile if tile.extents), default=0)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w[, c]) uint8 to `size` = (width, height): halve as often as possible, then bilinear."""
    return _resize_rest(_halve(image, size), size, cv2.INTER_LINEAR)


def _halve(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Halve (h, w[, c]) uint8 by the mean of 2×2 pixels as long as its sides are even and `size` allows it."""
    height, width = image.shape[:2]
    while height % 2 == 0 and width % 2 == 0 and _is_large_enough((width // 2, height // 2), size):
        width, height = width // 2, height // 2
        # OpenCV has a fast path for the mean of 2×2 pixels.
        image = _resize(image, (width, height), cv2.INTER_AREA)
    return image


def resize_by_area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w[, c]) uint8 to `size` = (width, height) by the mean of areas; bilinear where it becomes larger."""
    return _resize_rest(_halve(image, size), size, cv2.INTER_AREA)


def _resize_rest(image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    if width < size[0] or height < size[1]:
        interpolation = cv2.INTER_LINEAR
    elif width >= 2 * size[0] or height >= 2 * size[1]:
        interpolation = cv2.INTER_AREA  # bilinear would skip pixels
    return _resize(image, size, interpolation)


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Resize with OpenCV, which drops the axis of a single channel and takes the mean of at most four."""
    if image.ndim == 2 or 2 <= image.shape[2] <= 4:
        return cv2.resize(image, size, interpolation=interpolation)
    planes = [cv2.resize(plane, size, interpolation=interpolation) for plane in np.moveaxis(image, -1, 0)]
    return np.stack(planes, axis=-1)


def _is_large_enough(size: tuple[int, int], wanted: tuple[int, int]) -> bool:
    return all(side >= TOLERANCE * least for side, least in zip(size, wanted, strict=True))


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        UserError: it is missing, a folder, or not readable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", read_fix(error)) from None


def is_deep(data: bytes) -> bool:
    """Return whether the bytes are a PNG or TIFF file with more than 8 bits per value, by its header."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data[24:25] == b"\x10"
    if data[:2] not in (b"II", b"MM"):
        return False
    with suppress(Exception), Image.open(io.BytesIO(data), formats=("TIFF",)) as pil_image:
        return pil_image.mode.startswith(("I", "F"))
    return False


def _orientation(pil_image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8. Any other value, text included, means 1: no reader applies it."""
    value = pil_image.getexif().get(_ORIENTATION, 1)
    return next((orientation for orientation in range(1, 9) if orientation == value), 1)


def _upright_size(pil_image: Image.Image) -> tuple[int, int]:
    """Return the (width, height) of an image that is not decoded yet, after its orientation is applied."""
    width, height = pil_image.size
    # Orientations 5 to 8 exchange the axes. Pillow considers the TIFF tag, but not the same value in XMP.
    applied = isinstance(pil_image, TiffImageFile) and _ORIENTATION in pil_image.tag_v2
    return (height, width) if _orientation(pil_image) >= 5 and not applied else (width, height)


def _decode_jpeg(data: bytes, full_size: tuple[int, int], size: tuple[int, int] | None) -> np.ndarray:
    """Decode at the smallest sufficient scale; raise a ValueError if the decoder has a warning."""
    if simplejpeg.decode_jpeg_header(data)[1::-1] != full_size:
        raise ValueError("two decoders read different sizes")
    width, height = full_size
    for factor in _DECODER_FACTORS:
        downsampled = -(-full_size[0] // factor), -(-full_size[1] // factor)
        if size is not None and _is_large_enough(downsampled, size):
            width, height = downsampled
            break
    image: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    return image


def _to_rgb(pil_image: Image.Image) -> np.ndarray:
    """Convert any image that Pillow can open to (h, w, 3) uint8 RGB, upright.

    Strip by strip: copies of the whole image would need twice the memory.
    """
    width, height = _upright_size(pil_image)
    pil_image.load()
    # Pillow turns TIFF files itself.
    orientation = 1 if isinstance(pil_image, TiffImageFile) else _orientation(pil_image)
    peak = 255.0
    if pil_image.mode.startswith(("I", "F")):
        peak = max(1.0, *(float(_finite(strip).max()) for _, strip in _strips(pil_image)))
    image = np.empty((height, width, 3), dtype=np.uint8)
    stored = _AS_STORED[orientation](image) if orientation in _AS_STORED else image
    if pil_image.size != stored.shape[1::-1]:
        raise ValueError(f"it has {pil_image.width} × {pil_image.height} pixels instead of {width} × {height}")
    for top, strip in _strips(pil_image):
        stored[top : top + strip.height] = np.asarray(_strip_to_rgb(strip, peak))
    return image


def image_to_array(pil_image: Image.Image) -> np.ndarray:
    """Convert an image to an array of its own type, (h, w) or (h, w, channels), strip by strip as `_to_rgb`."""
    pil_image.load()
    array: np.ndarray | None = None
    for top, strip in _strips(pil_image):
        values = np.asarray(strip)
        if len(values) == pil_image.height:
            return values
        if array is None:
            array = np.empty((pil_image.height, *values.shape[1:]), dtype=values.dtype)
        array[top : top + strip.height] = values
    assert array is not None
    return array


def _strips(pil_image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips of full width and the number of their first row."""
    rows = max(1, _STRIP_PIXELS // pil_image.width)
    if rows >= pil_image.height:
        yield 0, pil_image
        return
    for top in range(0, pil_image.height, rows):
        yield top, pil_image.crop((0, top, pil_image.width, min(pil_image.height, top + rows)))


def _strip_to_rgb(strip: Image.Image, peak: float) -> Image.Image:
    if strip.mode.startswith(("I", "F")):
        # 16-bit grayscale: `convert` would clip at 255 instead of scaling.
        strip = Image.fromarray((_finite(strip) * (255 / peak)).clip(0, 255).astype(np.uint8))
    if strip.mode in ("RGBA", "LA", "PA") or "transparency" in strip.info:
        strip = strip.convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
    return strip.convert("RGB")


def _finite(strip: Image.Image) -> np.ndarray:
    """Return the numbers of a gray image, float32; NaN and infinity become 0."""
    return np.nan_to_num(np.array(strip, dtype=np.float32), copy=False, posinf=0, neginf=0)
