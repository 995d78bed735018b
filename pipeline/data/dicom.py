"""Read DICOM files with pydicom, an optional package."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.optional import explain_decoder

SUFFIXES = (".dcm", ".dicom")


def is_dicom(path: Path) -> bool:
    """Return whether a file is named like a DICOM file."""
    return path.suffix.lower() in SUFFIXES


def dicom_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of a DICOM file from its header.

    Raises:
        UserError: see `decode_dicom`.
    """
    with explain_decoder(path, "DICOM"):
        import pydicom

        data_set = pydicom.dcmread(path, stop_before_pixels=True)
        return _size(data_set)


def decode_dicom(data: bytes, path: Path, max_pixels: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Decode the values of a DICOM file: rescaled as its header says, with bright for dense (MONOCHROME2).

    Args:
        data: the bytes of the file.
        path: for messages.
        max_pixels: number of pixels of the largest image that is decoded.

    Returns:
        Values (h, w, c) of the stored type, or float32 if they are rescaled, with c = 3 for RGB and 1 otherwise; and
        the range (low, high) that the header asks to show, or that the stored bits can hold.

    Raises:
        UserError: pydicom or the package for a compression is not installed, or the file is damaged, has no image or
            several frames.
    """
    with explain_decoder(path, "DICOM"):
        import pydicom

        data_set = pydicom.dcmread(io.BytesIO(data))
        width, height = _size(data_set)
        if width * height > max_pixels:
            raise ValueError(f"it claims {width} × {height} pixels")
        if int(data_set.get("NumberOfFrames") or 1) > 1:
            raise ValueError(f"it has {data_set.NumberOfFrames} frames")
        values = data_set.pixel_array
        if int(data_set.SamplesPerPixel) > 1:
            if "YBR" in data_set.PhotometricInterpretation:
                values = pydicom.pixels.convert_color_space(values, data_set.PhotometricInterpretation, "RGB")
            return values, (0.0, float(2 ** int(data_set.BitsStored) - 1))
        return _gray_values(values, data_set)


def _gray_values(values: np.ndarray, data_set: Any) -> tuple[np.ndarray, tuple[float, float]]:
    bits, signed = int(data_set.BitsStored), bool(data_set.PixelRepresentation)
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if data_set.PhotometricInterpretation == "MONOCHROME1":
        values = (lowest + highest - values.astype(np.int64)).astype(values.dtype)
    slope, intercept = float(data_set.get("RescaleSlope") or 1), float(data_set.get("RescaleIntercept") or 0)
    if (slope, intercept) != (1, 0):
        values = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    shown = (lowest * slope + intercept, highest * slope + intercept)
    if (
        values.dtype != np.uint8
        and data_set.get("WindowCenter") is not None
        and data_set.get("WindowWidth") is not None
    ):
        center, width = (float(np.ravel(data_set[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
        shown = (center - width / 2, center + width / 2)
    return values[..., None], shown


def _size(data_set: Any) -> tuple[int, int]:
    return int(data_set.Columns), int(data_set.Rows)
