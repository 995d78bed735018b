"""Check a submission before it is uploaded.

The check refuses what Kaggle would refuse, and what it would accept and score near 0: placeholders, masks of another
size or pixel order, implausible areas. It cannot see numbers that count from 0 instead of 1, masks of a square image
with swapped axes, or masks made at a fraction of the size whose areas happen to be plausible.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.csv_records import read_csv_records
from pipeline.data.labels import LabelReader
from pipeline.data.mask_csv import describe_header
from pipeline.data.masks import Shape
from pipeline.data.rle import RleFormat, count_overlap, mask_to_runs, parse_rle, rle_format
from pipeline.data.row_format import RowFormat, submission_format
from pipeline.data.samples import RowKey, load_training_samples
from pipeline.errors import UserError
from pipeline.parallel import map_parallel
from pipeline.submission.compiled import parse_regular_rle
from pipeline.submission.pixel_order import (
    PROBED_MASKS,
    LineRatios,
    compare_lines,
    describe_verdict,
    true_line_ratios,
)
from pipeline.submission.report import MAX_PROBLEMS, SubmissionProblem, SubmissionReport

_IMPLAUSIBLE_SHARE = 0.01
"""Up to this fraction of masks with an implausible area is a warning, above it an error."""
_OTHER_SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f"
"""All white space in ASCII but the space."""
_REFERENCE_MASKS = 100
"""Training masks that the pixel order is compared with."""


def reference_ratios(competition: Competition, data: Path) -> LineRatios:
    """Compute the line ratios of some training masks; none if there is no training data."""
    try:
        samples = load_training_samples(competition, data, require_masks=False, blocks=False)
        labeled = [sample for sample in samples if sample.masks or sample.rows]
        reader, order = LabelReader(competition), competition.csv.order
        chosen = labeled[:: max(1, len(labeled) // _REFERENCE_MASKS)][:_REFERENCE_MASKS]
        if competition.windows:
            read = [reader.read_runs(sample) for sample in chosen]
            return true_line_ratios([(runs, shape) for masks, shape in read for runs in masks if len(runs)], order)
        masks = [mask for sample in chosen for mask in reader.read_row_masks(sample)]
    except UserError:
        return LineRatios()
    return true_line_ratios([(mask_to_runs(mask, order), (mask.shape[0], mask.shape[1])) for mask in masks], order)


def check_submission(
    path: Path, competition: Competition, shapes: Mapping[RowKey, Shape], reference: LineRatios | None = None
) -> SubmissionReport:
    """Read a submission to its end and report all problems. Rows may have any order.

    Args:
        path: a .csv or .csv.gz file.
        competition: its header, RLE format, and rules for empty masks and plausible areas are used.
        shapes: (height, width) of each row that the file must have, from `expected_shapes`.
        reference: line ratios of ground-truth masks, from `reference_ratios`.

    Raises:
        UserError: the file cannot be read to its end.
    """
    checker = _Checker(path, competition, shapes, reference or LineRatios())
    records = read_csv_records(path)
    _, header = next(records, (1, []))
    if tuple(header) != checker.format.header:
        what, fix = describe_header(header, checker.format.header)
        checker.report.add(f"{what}; {fix}", line=1)
    rows = checker.parse_records(records)
    inspected = map_parallel(partial(_inspect, checker.rle_format), rows, lambda row: len(row.rle))
    with closing(inspected) as results:
        for row, inspection in tqdm(results, desc="check", total=len(shapes), unit=" rows", delay=2):
            checker.add_row(row, inspection)
    checker.finish()
    if checker.report.rows and not _ends_with_newline(path):
        warning = SubmissionProblem("the file does not end with a newline; its last row may be incomplete")
        checker.report.warnings.append(warning)
    return checker.report


class _Row(NamedTuple):
    """One row of the file."""

    line: int
    problem: str
    """What is wrong besides the mask; the mask is then not checked."""
    key: RowKey | None = None
    """None if the fields cannot be read."""
    rle: str = ""
    pixels: int = 0
    """Pixels of the image."""


class _Inspection(NamedTuple):
    """What is known about a mask from its row alone."""

    problem: str = ""
    """Why the RLE is invalid."""
    area: int = 0
    """Pixels of the mask."""
    stray_spaces: bool = False


def _inspect(format: RleFormat, row: _Row) -> _Inspection:
    """Check the RLE of one row."""
    if row.problem:
        return _Inspection()
    regular = parse_regular_rle(row.rle, row.pixels, format)
    if regular is not None:
        return _Inspection(area=int(regular[:, 1].sum()))
    try:
        runs = parse_rle(row.rle, row.pixels, format)
    except ValueError as error:
        return _Inspection(str(error))
    return _Inspection("", int(runs[:, 1].sum()), _has_stray_spaces(row.rle, 2 * len(runs)))


def _has_stray_spaces(rle: str, numbers: int) -> bool:
    """Return whether there is other white space than one space between two of the numbers. Another parser may split
    only there.
    """
    if not numbers:
        return rle != rle.strip()
    # The RLE is valid, so as many spaces as gaps are one in each gap, if there is no other white space.
    return rle.count(" ") != numbers - 1 or not rle.isascii() or any(space in rle for space in _OTHER_SPACES)


class _Checker:
    """Check rows one by one, and all masks together at the end."""

    def __init__(
        self, path: Path, competition: Competition, shapes: Mapping[RowKey, Shape], reference: LineRatios
    ) -> None:
        self.report = SubmissionReport(path)
        self.competition = competition
        self.shapes = shapes
        self.reference = reference
        self.format: RowFormat = submission_format(competition)
        self.rle_format = rle_format(competition)
        self.instances = competition.csv.rows == "instance"
        self.lines: dict[RowKey, int] = {}
        """First line of each key."""
        self.objects: dict[RowKey, list[np.ndarray]] = {}
        """Runs of the objects of the image of the last rows, for rows that are instances."""
        self.similar: dict[str, str] = {}
        self.masks = _MaskStatistics(competition, every=max(1, len(shapes) // PROBED_MASKS))

    def parse_records(self, records: Iterable[tuple[int, list[str]]]) -> Iterator[_Row]:
        for line, fields in records:
            if len(fields) != len(self.format.header):
                wanted = len(self.format.header)
                yield _Row(line, f"has {len(fields)} fields instead of {wanted}" if fields else "is blank; remove it")
                continue
            try:
                id, class_index, rle = self.format.parse(fields)
            except ValueError as error:
                yield _Row(line, str(error))
                continue
            key = (id, class_index)
            problem = ""
            if key not in self.shapes:
                problem = f"the id is unknown{self._suggest(id)}"
            elif key in self.lines and not self.instances:
                problem = f"repeats line {self.lines[key]}"
            height, width = self.shapes.get(key, (0, 0))
            self.lines.setdefault(key, line)
            yield _Row(line, problem, key, rle, height * width)

    def add_row(self, row: _Row, inspection: _Inspection) -> None:
        self.report.rows += 1
        if row.key is None:
            self.report.add(row.problem, row.line)
            return
        name = self.format.describe_key(*row.key)
        if problem := row.problem or inspection.problem:
            self.report.add(problem, row.line, name)
            return
        if inspection.stray_spaces:
            fix = "put one space between two numbers and none at the ends"
            self.report.add(f"has stray spaces; {fix}", row.line, name)
        if self.instances:
            self._check_objects(row, row.key, name)
        self.masks.add(self.report, row, inspection.area, self.shapes[row.key], name)

    def finish(self) -> None:
        for key in self.shapes:
            if key not in self.lines:
                self.report.add("has no row", id=self.format.describe_key(*key))
        self.masks.summarize(self.report, self.reference, next(iter(self.shapes.values()), (0, 0)))

    def _check_objects(self, row: _Row, key: RowKey, name: str) -> None:
        """Check that the objects of an image do not overlap and that an empty row is its only one."""
        runs = parse_rle(row.rle, row.pixels, self.rle_format)
        others = self.objects.setdefault(key, [])
        if others and (not len(runs) or not len(others[0])):
            self.report.add("is one of several rows of the image, and one of them is empty", row.line, name)
        if any(count_overlap(runs, other) for other in others):
            self.report.add("overlaps another object of the same image", row.line, name)
        others.append(runs)

    def _suggest(self, id: str) -> str:
        """Return a hint if a known id differs only in folder, suffix, outer spaces or case."""
        self.similar = self.similar or {_bare_id(known): known for known, _ in self.shapes}
        similar = self.similar.get(_bare_id(id))
        return f"; did you mean {similar!r}?" if similar else ""


class _MaskStatistics:
    """Checks of all masks together: equal masks, implausible areas, another pixel order or width."""

    def __init__(self, competition: Competition, every: int) -> None:
        self.competition = competition
        self.every = every
        self.masks = 0
        self.first = ""
        self.all_equal = True
        self.all_full = True
        self.implausible: list[SubmissionProblem] = []
        self.implausible_count = 0
        self.ratios = LineRatios()

    def add(self, report: SubmissionReport, row: _Row, area: int, shape: Shape, name: str) -> None:
        if not self.masks:
            self.first = row.rle
        self.all_equal &= row.rle == self.first
        self.all_full &= area == row.pixels
        if area:
            self._check_area(area / row.pixels, row.line, name)
            if self.masks % self.every == 0:
                runs = parse_rle(row.rle, row.pixels, rle_format(self.competition))
                self.ratios.add(runs, shape, self.competition.csv.order)
        elif not self.competition.masks.may_be_empty:
            report.add("the mask is empty, which no mask of this competition is", row.line, name)
        self.masks += 1

    def summarize(self, report: SubmissionReport, reference: LineRatios, shape: Shape) -> None:
        if self.masks > 1 and self.all_equal:
            self._report_equal_masks(report)
        elif self.implausible_count > _IMPLAUSIBLE_SHARE * self.masks:
            for problem in self.implausible:
                report.add(problem.reason, problem.line, problem.id)
            report.count += self.implausible_count - len(self.implausible)
        else:
            report.warnings += self.implausible
        for verdict in compare_lines(self.ratios, reference):
            text = describe_verdict(verdict, shape, self.competition.csv.order)
            if verdict.refused:
                report.add(text)
            else:
                report.warnings.append(SubmissionProblem(text))

    def _check_area(self, area: float, line: int, name: str) -> None:
        lowest, highest = self.competition.masks.area
        if not lowest <= area <= highest:
            self.implausible_count += 1
            if len(self.implausible) < MAX_PROBLEMS:
                reason = f"the mask covers {area:.2%} of the image; expected {lowest:.1%} to {highest:.1%}"
                self.implausible.append(SubmissionProblem(reason, line, name))

    def _report_equal_masks(self, report: SubmissionReport) -> None:
        if self.first in ("", self.competition.csv.empty):
            warning = f"all {self.masks:,} masks are empty: the model predicts only background"
            report.warnings.append(SubmissionProblem(warning))
        elif self.all_full:
            report.add(f"all {self.masks:,} masks cover the whole image: every pixel is predicted")
        elif self.first == "1 1":
            report.add(f"all {self.masks:,} masks are '1 1', the placeholder of a sample submission")
        else:
            report.add(f"all {self.masks:,} masks are the same, {self.first[:40]!r}")


def _ends_with_newline(path: Path) -> bool:
    """Return whether a plain file ends where a row does; gzip itself notices a truncated file."""
    if path.name.endswith(".gz"):
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) in b"\r\n"


def _bare_id(id: str) -> str:
    """Return an id without folder, suffix, outer spaces and case."""
    return PurePath(id.strip()).stem.casefold()
