"""Read one or two submissions and write their page."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.attributes import read_attributes
from pipeline.data.samples import load_test_samples
from pipeline.errors import UserError
from pipeline.paths import submission_doubts
from pipeline.report.look_page import write_look
from pipeline.report.submission_page import look_at_submission
from pipeline.report.submission_pair_page import look_at_submissions
from pipeline.submission.agreement import compare_submissions
from pipeline.submission.doubts import read_doubts
from pipeline.submission.measure import measure_submission
from pipeline.submission.shapes import expected_shapes
from pipeline.submission.suspicion import find_suspicions


def write_submission_report(competition: Competition, data: Path, submissions: Sequence[Path]) -> Path:
    """Write ``reports/submission-<name>/index.html``, or ``reports/submission-<a>-vs-<b>/index.html`` of two.

    Args:
        competition: the competition.
        data: the data folder with the test images.
        submissions: one .csv or .csv.gz file, or two.

    Returns:
        The path of the page.

    Raises:
        UserError: not one or two files; a file cannot be read or has an invalid mask; a test image is missing.
    """
    if len(submissions) not in (1, 2):
        what = f"names {len(submissions)} files"
        raise UserError("SUBMISSION", what, 'give one, or two: SUBMISSION="a.csv.gz b.csv.gz"')
    samples = {sample.id: sample for sample in load_test_samples(competition, data)}
    shapes = expected_shapes(competition, data)
    if missing := next((id for id, _ in shapes if id not in samples), None):
        raise UserError(data, f"has no image {missing}, which a submission must have", "download the test images")
    attributes = read_attributes(competition, data, list(samples.values()))
    if len(submissions) == 2:
        differences = compare_submissions(submissions[0], submissions[1], competition, shapes)
        return write_look(look_at_submissions(competition, submissions, differences, samples, attributes), competition)
    path = submissions[0]
    measured = measure_submission(path, competition, shapes)
    suspicions = find_suspicions(
        measured,
        {id: sample.group for id, sample in samples.items()},
        attributes,
        read_doubts(submission_doubts(path)),
        may_be_empty=competition.masks.may_be_empty,
    )
    missing_rows = len(shapes) - len(measured)
    look = look_at_submission(competition, path, suspicions, samples, attributes, missing_rows)
    return write_look(look, competition)
