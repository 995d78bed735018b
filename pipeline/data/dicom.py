"""Read DICOM files with pydicom, an optional package."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.optional import explain_decoder

SUFFIXES = (".dcm", ".dicom")
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
"""Values of the element PhotometricInterpretation."""


def is_dicom(path: Path) -> bool:
    """Return whether a file is named like a DICOM file."""
    return path.suffix.lower() in SUFFIXES


def dicom_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of a DICOM file from its header.

    Raises:
        UserError: pydicom is not installed, or the file is damaged or has no image.
    """
    with explain_decoder(path, "DICOM"):
        import pydicom

        data_set = pydicom.dcmread(path, stop_before_pixels=True)
        return _size(data_set)


def decode_dicom(data: bytes, path: Path, max_pixels: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Decode a DICOM file: apply its rescale slope and intercept; invert MONOCHROME1, so that dense parts are bright.

    Args:
        data: the bytes of the file.
        path: for messages.
        max_pixels: number of pixels of the largest image that is decoded.

    Returns:
        Values (h, w, c) of the stored type, or float32 if they are rescaled, with c = 3 for RGB, YBR and palettes, 1
        otherwise; and the range (low, high) that the header asks to show (window center and width of a gray image,
        unless its values are uint8), or that the stored bits can hold.

    Raises:
        UserError: pydicom or the package for a compression is not installed, or the file is damaged, too large, has
            no image or several frames.
    """
    with explain_decoder(path, "DICOM"):
        import pydicom

        data_set = pydicom.dcmread(io.BytesIO(data))
        width, height = _size(data_set)
        if width * height > max_pixels:
            raise ValueError(f"it claims {width} × {height} pixels")
        if int(data_set.get("NumberOfFrames") or 1) > 1:
            raise ValueError(f"it has {data_set.NumberOfFrames} frames")
        model = str(data_set.PhotometricInterpretation)
        if model not in (*_GRAY, *_COLOR, _PALETTE):
            raise ValueError(f"the color model {model} is not supported")
        values = data_set.pixel_array  # YBR becomes RGB
        if model == _PALETTE:
            from pydicom.pixels.processing import apply_color_lut

            values = apply_color_lut(values, data_set)[..., :3]
            return values, (0.0, float(np.iinfo(values.dtype).max))
        if model in _COLOR:
            return values, (0.0, float(2 ** int(data_set.BitsStored) - 1))
        return _gray_values(values, data_set)


def _gray_values(values: np.ndarray, data_set: Any) -> tuple[np.ndarray, tuple[float, float]]:
    bits, signed = int(data_set.BitsStored), bool(data_set.PixelRepresentation)
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    inverted = data_set.PhotometricInterpretation == "MONOCHROME1"
    if inverted:
        values = (lowest + highest - values.astype(np.int64)).astype(values.dtype)
    slope, intercept = float(data_set.get("RescaleSlope") or 1), float(data_set.get("RescaleIntercept") or 0)
    if (slope, intercept) != (1, 0):
        values = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    low, high = lowest * slope + intercept, highest * slope + intercept
    center, width = (_first_number(data_set, name) for name in ("WindowCenter", "WindowWidth"))
    if values.dtype != np.uint8 and center is not None and width is not None and width > 0:
        if inverted:
            center = low + high - center
        low, high = center - width / 2, center + width / 2
    return values[..., None], (low, high)


def _first_number(data_set: Any, name: str) -> float | None:
    """Return the value of an element, the first one of several, or None."""
    value = data_set.get(name)
    numbers = np.ravel([] if value is None else value)
    return float(numbers[0]) if len(numbers) else None


def _size(data_set: Any) -> tuple[int, int]:
    return int(data_set.Columns), int(data_set.Rows)
