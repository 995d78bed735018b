"""One image and its mask: opened, decoded in full, and held against what the competition promises."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg

from pipeline.competition import Competition
from pipeline.data.images import decode_image, image_size, read_bytes
from pipeline.data.masks import read_mask
from pipeline.data.rle import count_overlap, mask_to_runs, parse_rle, runs_to_rle
from pipeline.data.samples import Sample
from pipeline.errors import UserError

# Bytes of padding between two parts of a JPEG that say nothing of damage.
_PADDING = 16
_REFETCH = "fetch the file again, or remove it"


@dataclass(frozen=True)
class Finding:
    """One thing wrong with the data."""

    level: Literal["error", "warning"]
    """An error stops the pipeline or makes its numbers wrong; a warning wants a look."""
    file: str
    """Relative to the data folder."""
    what: str
    fix: str


@dataclass
class ExaminedPair:
    """What opening one image and its mask has shown."""

    sample: Sample
    findings: list[Finding] = field(default_factory=list)
    image_hash: bytes | None = None
    mask_hash: bytes | None = None
    """None also for an empty mask: those are alike by right."""


def examine_pair(competition: Competition, data: Path, sample: Sample, row: str | None = None) -> ExaminedPair:
    """Open an image and its mask.

    Args:
        competition: the promises.
        data: the folder that the names in the findings are relative to.
        sample: the image, and the mask if it has one.
        row: the same mask as the competition's CSV has it.

    Returns:
        The findings, and hashes of the contents. A file that cannot be read is a finding as well.
    """
    seen = ExaminedPair(sample)
    size = _open_image(competition, data, seen)
    if sample.mask is not None:
        _open_mask(competition, data, seen, sample.mask, size, row)
    return seen


def _open_image(competition: Competition, data: Path, seen: ExaminedPair) -> tuple[int, int] | None:
    """Decode an image; its (width, height), or None if it is broken."""
    path = seen.sample.image
    try:
        content = read_bytes(path)
        # Of the file and not of its pixels: copies are what goes wrong, and it costs a twentieth of decoding.
        seen.image_hash = hashlib.blake2b(content, digest_size=16).digest()
        complaint = _jpeg_complaint(content)
        if complaint is not None:
            decode_image(content, path)
            if complaint.startswith("Corrupt JPEG data"):
                # Pillow takes such files in silence, gray where the data is missing. (Damage that happens to be valid
                # code shows in no decoder.) A few stray bytes between two parts are harmless: some cameras pad.
                stray = re.search(r"(\d+) extraneous bytes", complaint)
                level = "warning" if stray and int(stray[1]) <= _PADDING else "error"
                seen.findings.append(
                    Finding(level, relative_name(path, data), f"is damaged inside ({complaint})", _REFETCH)
                )
        size = image_size(path)
    except UserError as error:
        seen.findings.append(finding_from_error(error, data, path))
        return None
    except Exception as error:  # A decoder that stumbles over one file must not hide what is wrong with the others.
        seen.findings.append(_crash(error, data, path))
        return None
    wanted = competition.images.size
    if wanted and size != wanted:
        what = f"is {size[0]} × {size[1]} pixels; expected {wanted[0]} × {wanted[1]}"
        seen.findings.append(Finding("error", relative_name(path, data), what, f"{_REFETCH}, or correct images.size"))
    return size


def _jpeg_complaint(content: bytes) -> str | None:
    """What the strict decoder says of a JPEG, "" of another format (both want a second look); None if all is well."""
    if not content.startswith(b"\xff\xd8"):
        return ""
    try:
        # All data is read at any scale; an eighth saves half of the time.
        simplejpeg.decode_jpeg(content, "RGB", min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return None


def _open_mask(
    competition: Competition, data: Path, seen: ExaminedPair, path: Path, size: tuple[int, int] | None, row: str | None
) -> None:
    """Decode the mask of an image of this size and compare it to its row in the competition's CSV."""
    name = relative_name(path, data)
    try:
        mask = read_mask(path, competition.masks.positive)
        content = read_bytes(path)
    except UserError as error:
        seen.findings.append(finding_from_error(error, data, path))
        return
    except Exception as error:  # As above.
        seen.findings.append(_crash(error, data, path))
        return
    height, width = mask.shape
    share = float(mask.mean())
    lowest, highest = competition.masks.area
    if size and size != (width, height):
        what = f"is {width} × {height} pixels, its image {size[0]} × {size[1]}"
        seen.findings.append(Finding("error", name, what, "give both the same size"))
    if share:
        seen.mask_hash = hashlib.blake2b(content, digest_size=16).digest()
    elif not competition.masks.may_be_empty:
        fix = "draw it, remove the pair, or set masks.may_be_empty"
        seen.findings.append(Finding("error", name, "is empty", fix))
    if share and not lowest <= share <= highest:
        what = f"covers {share:.2%} of the image; expected {lowest:.1%} to {highest:.1%}"
        seen.findings.append(Finding("warning", name, what, "look at it, or correct masks.area"))
    fault = None if row is None else _difference(mask, row, competition)
    if fault:
        what = f"differs from its row in {competition.csv.train}: {fault}"
        seen.findings.append(Finding("error", name, what, "fetch both again; only one can be right"))


def _difference(mask: np.ndarray, text: str, competition: Competition) -> str | None:
    """How a mask differs from a run-length encoding; None if it does not."""
    runs = mask_to_runs(mask, competition.csv.order)
    if runs_to_rle(runs) == text:
        return None
    try:
        others = parse_rle(text, mask.size)
    except ValueError as error:
        return str(error)
    pixels = int(runs[:, 1].sum() + others[:, 1].sum()) - 2 * count_overlap(runs, others)
    return f"{pixels:,} pixels" if pixels else None


def finding_from_error(error: UserError, data: Path, path: Path | None = None) -> Finding:
    """Take a sentence "file: what is wrong; what to do" apart."""
    text = str(error)
    if path is None or not text.startswith(f"{path}: "):
        path = Path(text.partition(": ")[0])
    rest = text.removeprefix(f"{path}: ")
    what, _, fix = rest.rpartition("; ")
    return Finding("error", relative_name(path, data), what or rest, fix if what else _REFETCH)


def _crash(error: Exception, data: Path, path: Path) -> Finding:
    return Finding("error", relative_name(path, data), f"cannot be decoded ({type(error).__name__}: {error})", _REFETCH)


def relative_name(path: Path, data: Path) -> str:
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else path.as_posix()
