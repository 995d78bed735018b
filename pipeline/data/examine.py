"""Examine one image and its labels: decode them completely and compare them with what the competition states."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg

from pipeline.competition import Competition
from pipeline.data.images import decode_image, is_deep, read_bytes
from pipeline.data.masks import read_mask
from pipeline.data.readers import ImageReader
from pipeline.data.rle import count_overlap, mask_to_runs, parse_rle, rle_format
from pipeline.data.samples import Sample
from pipeline.data.windows import Window
from pipeline.errors import UserError

_PADDING = 16
"""Bytes between two parts of a JPEG that are padding of some cameras, not damage."""
_PART = 2048
"""Side in pixels of the parts in which an image is decoded that is too large to be decoded whole."""
_REFETCH = "download the file again, or remove it"


@dataclass(frozen=True)
class Finding:
    """One error or warning about the data."""

    level: Literal["error", "warning"]
    """An error stops the pipeline or makes its figures wrong; a warning should be looked at."""
    file: str
    """Relative to the data folder."""
    what: str
    fix: str


@dataclass
class ExaminedSample:
    """The findings of one sample and the hashes of its files."""

    sample: Sample
    findings: list[Finding] = field(default_factory=list)
    image_hash: bytes | None = None
    mask_hashes: dict[Path, bytes] = field(default_factory=dict)
    """Without empty masks, which are equal by nature."""
    differs_from_csv: bool = False
    """Whether the mask differs from its row in ``csv.train``."""


class Examiner:
    """Examine samples of one competition.

    Args:
        competition: what the data should be like.
        data: the data folder; findings name files relative to it.
        rows: RLE of ``csv.train`` by id, to compare with mask files; empty if there are none.
    """

    def __init__(self, competition: Competition, data: Path, rows: dict[str, str]) -> None:
        self.competition = competition
        self.images = ImageReader(competition)
        self.data = data
        self.rows = rows

    def examine(self, sample: Sample) -> ExaminedSample:
        """Decode the image and its labels. A file that cannot be read is a finding too."""
        result = ExaminedSample(sample)
        size = self._examine_image(result)
        for _, path in sample.masks:
            self._examine_mask(result, path, size)
        if sample.rows and size:
            self._examine_rows(result, sample.rows, size)
        return result

    def _add(self, result: ExaminedSample, level: Literal["error", "warning"], path: Path, what: str, fix: str) -> None:
        result.findings.append(Finding(level, relative_name(path, self.data), what, fix))

    def _examine_image(self, result: ExaminedSample) -> tuple[int, int] | None:
        """Decode an image; return its (width, height), or None if it is broken."""
        path = result.sample.image
        try:
            if self.competition.windows:
                return self._examine_in_windows(result)
            content = read_bytes(path)
            # Hash the file, not its pixels: the common mistake is a copy, and hashing costs a twentieth of decoding.
            result.image_hash = hashlib.blake2b(content, digest_size=16).digest()
            complaint = _jpeg_complaint(content)
            if not self.images.is_plain:
                self.images.read(result.sample)
            elif complaint is not None:
                decode_image(content, path)
                if complaint.startswith("Corrupt JPEG data"):
                    # Pillow accepts such files and fills the rest with gray. Damage that is valid code by chance is
                    # not visible to any decoder.
                    stray = re.search(r"(\d+) extraneous bytes", complaint)
                    level: Literal["error", "warning"] = "warning" if stray and int(stray[1]) <= _PADDING else "error"
                    self._add(result, level, path, f"is damaged inside ({complaint})", _REFETCH)
            if self.images.is_plain and is_deep(content):
                what = "has 16 bits per value, of which 8 are kept, scaled by the image's own maximum"
                self._add(result, "warning", path, what, "state images.range = [lowest, highest]")
            size = self.images.size(result.sample)
        except UserError as error:
            result.findings.append(finding_from_error(error, self.data))
            return None
        except Exception as error:  # A decoder that crashes on one file must not hide the findings of the others.
            self._add(result, "error", path, f"cannot be decoded ({type(error).__name__}: {error})", _REFETCH)
            return None
        wanted = self.competition.images.size
        if wanted and size != wanted:
            what = f"is {size[0]}×{size[1]} pixels; expected {wanted[0]}×{wanted[1]}"
            self._add(result, "error", path, what, f"{_REFETCH}, or correct images.size")
        return size

    def _examine_in_windows(self, result: ExaminedSample) -> tuple[int, int]:
        """Decode an image part by part; return its (width, height)."""
        sample = result.sample
        with sample.image.open("rb") as file:
            result.image_hash = hashlib.file_digest(file, "blake2b").digest()
        width, height = self.images.size(sample)
        for top in range(0, height, _PART):
            for left in range(0, width, _PART):
                part = Window(left, top, min(_PART, width - left), min(_PART, height - top))
                self.images.read_window(sample, part)
        return width, height

    def _examine_mask(self, result: ExaminedSample, path: Path, size: tuple[int, int] | None) -> None:
        try:
            mask = read_mask(path, self.competition.masks.positive, large=self.competition.windows is not None)
            content = read_bytes(path)
        except UserError as error:
            result.findings.append(finding_from_error(error, self.data))
            return
        except Exception as error:  # As above.
            self._add(result, "error", path, f"cannot be decoded ({type(error).__name__}: {error})", _REFETCH)
            return
        height, width = mask.shape
        if size and size != (width, height):
            what = f"is {width}×{height} pixels, its image {size[0]}×{size[1]}"
            self._add(result, "error", path, what, "give both the same size")
        area = float(mask.mean())
        if area:
            result.mask_hashes[path] = hashlib.blake2b(content, digest_size=16).digest()
        elif not self.competition.masks.may_be_empty:
            self._add(result, "error", path, "is empty", "draw it, remove the pair, or set masks.may_be_empty")
        lowest, highest = self.competition.masks.area
        if area and not lowest <= area <= highest:
            what = f"covers {area:.2%} of the image; expected {lowest:.1%} to {highest:.1%}"
            self._add(result, "warning", path, what, "look at it, or correct masks.area")
        row = self.rows.get(result.sample.id)
        difference = None if row is None else _difference(mask, row, self.competition)
        if difference:
            result.differs_from_csv = True
            what = f"differs from its row in {self.competition.csv.train}: {difference}"
            self._add(result, "error", path, what, "download both again; only one can be right")

    def _examine_rows(self, result: ExaminedSample, rows: Sequence[tuple[int, str]], size: tuple[int, int]) -> None:
        path = self.data / str(self.competition.csv.train)
        pixels, format = size[0] * size[1], rle_format(self.competition)
        for _, rle in rows:
            try:
                area = parse_rle(rle, pixels, format)[:, 1].sum() / pixels
            except ValueError as error:
                what = f"has a faulty row for {result.sample.id}: {error}"
                self._add(result, "error", path, what, "download it again, or correct csv.base or csv.offsets")
                continue
            lowest, highest = self.competition.masks.area
            if not lowest <= area <= highest:
                what = (
                    f"has a mask for {result.sample.id} that covers {area:.2%}; expected {lowest:.1%} to {highest:.1%}"
                )
                self._add(result, "warning", path, what, "look at it, or correct masks.area")


def _jpeg_complaint(content: bytes) -> str | None:
    """Return the strict decoder's complaint about a JPEG, "" for other formats, None if there is none."""
    if not content.startswith(b"\xff\xd8"):
        return ""
    try:
        # All data is read at any scale; an eighth takes half the time.
        simplejpeg.decode_jpeg(content, "RGB", min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return None


def _difference(mask: np.ndarray, text: str, competition: Competition) -> str | None:
    """Describe how a mask differs from its RLE; None if it does not."""
    format = rle_format(competition)
    runs = mask_to_runs(mask, format.order)
    try:
        others = parse_rle(text, mask.size, format)
    except ValueError as error:
        return str(error)
    pixels = int(runs[:, 1].sum() + others[:, 1].sum()) - 2 * count_overlap(runs, others)
    return f"{pixels:,} pixels" if pixels else None


def finding_from_error(error: UserError, data: Path) -> Finding:
    """Convert an error about a file into a finding."""
    return Finding("error", relative_name(Path(error.where), data), error.what, error.fix or _REFETCH)


def relative_name(path: Path, data: Path) -> str:
    """Return a path relative to the data folder, if it is inside."""
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else path.as_posix()
