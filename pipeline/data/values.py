"""Map the values of deep images to 8 bits."""

import numpy as np


def scale_values(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Map values linearly so that `limits` become 0 and 255; values outside are clipped.

    Args:
        values: any shape, integers or floating point; NaN becomes 0.
        limits: (low, high), which differ.

    Returns:
        uint8, of the same shape.
    """
    low, high = limits
    if values.dtype in (np.uint8, np.uint16):
        table = np.arange(np.iinfo(values.dtype).max + 1, dtype=np.float64)
        mapped: np.ndarray = _to_uint8(table, low, high)[values]
        return mapped
    return _to_uint8(np.nan_to_num(values.astype(np.float64), copy=False, nan=low), low, high)


def _to_uint8(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled: np.ndarray = ((values - low) * (255 / (high - low))).round().clip(0, 255)
    return scaled.astype(np.uint8)
