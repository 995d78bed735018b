"""Shared by the targets: seeds in every format of images, and a file in memory."""

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

_MEMORY = Path("/dev/shm")
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))


def write(name: str, data: bytes) -> Path:
    """Write a file into a temporary folder."""
    path = FOLDER / name
    path.write_bytes(data)
    return path


def encode_images() -> list[bytes]:
    """Return a small image in all formats and modes that are read."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (9, 13, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    variants = [
        *((kind, "RGB", {}) for kind in ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")),
        *((kind, "L", {}) for kind in ("BMP", "GIF", "JPEG", "PNG", "TIFF")),
        *((kind, "1", {}) for kind in ("BMP", "PNG", "TIFF", "PPM")),
        *((kind, "RGBA", {}) for kind in ("PNG", "TIFF", "WEBP")),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"exif": exif, "progressive": True}),
        ("PNG", "RGB", {"exif": exif}),
        ("PNG", "I;16", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("TIFF", "F", {}),
        ("TIFF", "RGB", {"exif": exif}),
        *(("TIFF", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        ("WEBP", "RGB", {"lossless": True, "exif": exif}),
    ]
    files = []
    for kind, mode, options in variants:
        buffer = io.BytesIO()
        converted = image.convert("L").convert(mode) if mode in ("I;16", "F", "LA") else image.convert(mode)
        converted.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files
