"""The submission file: written, read, and judged before it is uploaded.

The check refuses whatever Kaggle would refuse, and what it would take and score near zero: placeholders, masks of
another size or order, masks too small or too large to be true. It cannot see numbers that count from 0 instead of 1,
masks of a square image with its axes swapped, or masks made at a fraction of the size whose areas happen to be sane.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.images import image_size
from pipeline.data.mask_csv import header_fault, read_csv_records, read_mask_csv
from pipeline.data.rle import count_breaks, parse_rle
from pipeline.data.samples import Sample, load_test_samples
from pipeline.errors import UserError

Shape = tuple[int, int]
"""(height, width) in pixels."""

MAX_PROBLEMS = 100
"""Problems that a report holds; the others are only counted."""

_LONGEST_ID = 80
"""Of an id in a message."""

# A real submission may have a few odd masks; where more than this share is odd, something is wrong with all.
_ODD_SHARE = 0.01
# Masks that are looked at for a wrong order or width, spread over the file; and how they vote. On true masks of cars
# and of nuclei no vote was ever cast, on masks written in the wrong order or at a width of 1920 nearly all were.
_PROBED = 200
_BETTER = 0.9
_MAJORITY = 0.9
_FEWEST_VOTES = 3


@dataclass(frozen=True)
class SubmissionProblem:
    """One thing wrong with a submission."""

    reason: str
    line: int | None = None
    """Counted from 1, the header being 1; None if it is no matter of one line."""
    id: str | None = None

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else ""
        if self.id is not None:
            id = self.id if self.id.isprintable() and len(self.id) <= _LONGEST_ID else repr(self.id[:_LONGEST_ID])
            place = f"{place} ({id})" if place else id
        return f"{place}: {self.reason}" if place else self.reason


@dataclass
class SubmissionReport:
    """What the check of a submission found."""

    path: Path
    rows: int = 0
    problems: list[SubmissionProblem] = field(default_factory=list)
    """The first `KEPT` reasons to refuse the file."""
    count: int = 0
    """How many problems there are."""
    warnings: list[SubmissionProblem] = field(default_factory=list)
    """Odd, but too few to refuse the file."""

    @property
    def good(self) -> bool:
        """Whether the file may be uploaded."""
        return self.count == 0

    def add(self, reason: str, line: int | None = None, id: str | None = None) -> None:
        """Count a problem, and keep it if it is among the first."""
        self.count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(SubmissionProblem(reason, line, id))

    def raise_if_bad(self) -> None:
        """Raise a UserError with the first problem and the number of the others."""
        if not self.good:
            others = f" ({self.count - 1:,} more problems)" if self.count > 1 else ""
            raise UserError(self.path, f"{self.problems[0]}{others}", "correct the file or predict again")


def expected_shapes(competition: Competition, data: Path, sample: Path | None = None) -> dict[str, Shape]:
    """What a submission must have a row for: the ids of the sample CSV, or of the test images where there is none.

    Args:
        competition: names the sample CSV and the test folder.
        data: the folder of the data.
        sample: another sample CSV.

    Returns:
        id → (height, width) of its image. The images are needed only if they do not all have one size.

    Raises:
        UserError: the sample cannot be read, there is neither a sample nor a test image, or an id has no test image.
    """
    if sample is None and competition.csv.sample and (data / competition.csv.sample).exists():
        sample = data / competition.csv.sample
    if sample is None:
        return image_shapes(competition, load_test_samples(competition, data))
    ids = [row.id for row in read_mask_csv(sample, competition.csv.columns)]
    if competition.images.size:
        width, height = competition.images.size
        return dict.fromkeys(ids, (height, width))
    images = {image.id: image for image in load_test_samples(competition, data)}
    lost = next((id for id in ids if id not in images), None)
    if lost is not None:
        raise UserError(sample, f"names {lost!r}, which is no test image", "fetch what is missing")
    return image_shapes(competition, [images[id] for id in ids])


def image_shapes(competition: Competition, samples: Sequence[Sample]) -> dict[str, Shape]:
    """id → (height, width): the competition's one size, else from the headers of the images.

    Raises:
        UserError: an image cannot be opened.
    """
    if competition.images.size:
        width, height = competition.images.size
        return dict.fromkeys((sample.id for sample in samples), (height, width))
    found = {}
    for sample in tqdm(samples, desc="sizes", unit=" images", delay=2):
        width, height = image_size(sample.image)
        found[sample.id] = (height, width)
    return found


def check_submission(
    path: Path, competition: Competition, expected_ids: Sequence[str], shapes: Mapping[str, Shape]
) -> SubmissionReport:
    """Read a whole submission and report everything that is wrong with it; rows may have any order.

    Args:
        path: a .csv or .csv.gz file.
        competition: its header, the order of the pixels, whether masks may be empty, their sane areas.
        expected_ids: each needs one row.
        shapes: (height, width) of each of them.

    Raises:
        UserError: the file cannot be read to its end.
    """
    report = SubmissionReport(path)
    lines = read_csv_records(path)
    _, header = next(lines, (1, []))
    if tuple(header) != competition.csv.columns:
        report.add(header_fault(header, competition.csv.columns), line=1)
    known = set(expected_ids)
    seen: dict[str, int] = {}
    near: dict[str, str] = {}
    whole = _Whole(report, competition, every=max(1, len(expected_ids) // _PROBED))
    for line, fields in tqdm(lines, desc="check", total=len(expected_ids), unit=" rows", delay=2):
        report.rows += 1
        if len(fields) != 2:
            reason = f"has {len(fields)} fields instead of an id and a mask" if fields else "is blank; remove it"
            report.add(reason, line)
            continue
        id, text = fields
        if id in seen:
            report.add(f"the id is there already, in line {seen[id]}", line, id)
        elif id not in known:
            near = near or {_bare(other): other for other in expected_ids}
            like = near.get(_bare(id))
            report.add(f"the id is unknown{f'; is it {like!r}, written otherwise?' if like else ''}", line, id)
        seen.setdefault(id, line)
        if id in known:
            runs = _parse(report, text, shapes[id], line, id)
            if runs is not None:
                whole.add(text, runs, shapes[id], line, id)
    for id in expected_ids:
        if id not in seen:
            report.add("has no row", id=id)
    whole.judge()
    if report.rows and not _ends_with_line(path):
        report.warnings.append(SubmissionProblem("the file does not end with a line end; its last row may be cut off"))
    return report


def _ends_with_line(path: Path) -> bool:
    """Whether a plain file ends where a row does; gzip notices by itself that it was cut."""
    if path.name.endswith(".gz"):
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) in b"\r\n"


def _parse(report: SubmissionReport, text: str, shape: Shape, line: int, id: str) -> np.ndarray | None:
    """The runs of one mask; None if they are faulty, which is then in the report."""
    try:
        runs = parse_rle(text, shape[0] * shape[1])
    except ValueError as error:
        report.add(str(error), line, id)
        return None
    # What `split` forgives another reader may not.
    if " ".join(text.split()) != text:
        report.add("has stray spaces; one space belongs between two numbers and none at the ends", line, id)
    return runs


class _Whole:
    """What shows only in all masks together: that they are all the same, of odd area, or written for another width."""

    def __init__(self, report: SubmissionReport, competition: Competition, every: int) -> None:
        self.report = report
        self.competition = competition
        self.every = every
        self.masks = 0
        self.first = ""
        self.same = True
        self.odd: list[SubmissionProblem] = []
        self.odd_count = 0
        self.votes: dict[str, tuple[int, int, str]] = {}
        """Votes for another distance, masks that could vote, and what the vote means."""

    def add(self, text: str, runs: np.ndarray, shape: Shape, line: int, id: str) -> None:
        if not self.masks:
            self.first = text
        self.same &= text == self.first
        if not len(runs):
            if not self.competition.masks.may_be_empty:
                self.report.add("the mask is empty, and no mask of this competition may be", line, id)
        else:
            share = int(runs[:, 1].sum()) / (shape[0] * shape[1])
            lowest, highest = self.competition.masks.area
            if not lowest <= share <= highest:
                self.odd_count += 1
                if len(self.odd) < MAX_PROBLEMS:
                    sane = f"expected {lowest:.1%} to {highest:.1%}"
                    self.odd.append(SubmissionProblem(f"the mask covers {share:.2%} of the image; {sane}", line, id))
            if self.masks % self.every == 0:
                self._probe(runs, shape)
        self.masks += 1

    def judge(self) -> None:
        # Without a sample nothing is submitted, and a folder of one's own may well hold no object at all.
        if self.masks > 1 and self.same and (self.first or self.competition.csv.sample):
            what = f"are the same, {self.first[:40]!r}" if self.first else "are empty"
            self.report.add(f"all {self.masks:,} masks {what}: this is a sample, not a prediction")
        elif self.odd_count > _ODD_SHARE * self.masks:
            for problem in self.odd:
                self.report.add(problem.reason, problem.line, problem.id)
            self.report.count += self.odd_count - len(self.odd)
        else:
            self.report.warnings += self.odd
        for votes, probed, reason in self.votes.values():
            if votes >= max(_FEWEST_VOTES, _MAJORITY * probed):
                self.report.add(f"{votes} of {probed} masks looked at {reason}")

    def _probe(self, runs: np.ndarray, shape: Shape) -> None:
        """Let one mask vote for another distance between its rows than the right one."""
        across, down = shape[::-1] if self.competition.csv.order == "row" else shape
        lines = ("the rows", "the columns") if self.competition.csv.order == "row" else ("the columns", "the rows")
        padded = -(-across // 32) * 32
        pixels = shape[0] * shape[1]
        # Per pixel of distance, since the edge of one long run breaks at as many pixels as the distance has.
        own = count_breaks(runs, across, pixels) / across
        others = {
            "order": (down, f"are numbered along {lines[1]}; expected along {lines[0]} (csv.order)"),
            "width": (padded, f"are made for images of {padded} pixels along {lines[0]}; expected {across}"),
        }
        for kind, (stride, reason) in others.items():
            if stride != across and own:
                votes, probed, _ = self.votes.get(kind, (0, 0, ""))
                better = count_breaks(runs, stride, pixels) / stride < _BETTER * own
                self.votes[kind] = (votes + better, probed + 1, reason)


def _bare(id: str) -> str:
    """An id without folder, ending, outer spaces and case."""
    return PurePath(id.strip()).stem.casefold()
