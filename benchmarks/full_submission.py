"""Measure time and memory of checking a full submission and uploading it to the local stand-in for Kaggle.

::

    .venv/bin/python -m benchmarks.full_submission --data DIR

DIR contains ``sample_submission_full.csv`` with the 100,064 ids of the competition and ``train_masks.csv`` with real
masks. The masks are repeated until every id has one.
"""

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import typer

from pipeline.competition import load_competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.row_format import submission_format
from pipeline.kaggle import upload
from pipeline.kaggle.client import require_slug
from pipeline.options import parse_data
from pipeline.submission.check import check_submission
from pipeline.submission.shapes import expected_shapes
from scripts.common import DataOption, run
from tests.standin.backend import Backend
from tests.standin.server import StandinServer

COMPETITION = "carvana"


def main(
    data: DataOption = "", rows: Annotated[int, typer.Option(min=0, help="Number of rows; 0 for all of them.")] = 0
) -> None:
    """Print the measurements as JSON: seconds, and peak memory in MiB."""
    source = parse_data(data, COMPETITION)
    with tempfile.TemporaryDirectory(prefix="full-submission-") as scratch:
        folder = Path(scratch)
        file = folder / "full.csv.gz"
        measured: dict[str, object] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
        measured |= write_files(source, folder, file, rows)
        slug = require_slug(load_competition(COMPETITION))
        backend = Backend(slug, {}, lambda _: (0.5, 0.5), folder / "uploads")
        with StandinServer(backend) as standin:
            os.environ.update(standin.environment(), HOME=scratch, KAGGLE_CONFIG_DIR=scratch)
            # A new process, so that the peak memory is that of the check and the upload only.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                measured |= pool.submit(measure_upload, folder, file).result()
        assert backend.submissions[0].path.stat().st_size == file.stat().st_size
        measured["standin_peak_mb"] = peak_megabytes(resource.RUSAGE_SELF)
        print(json.dumps(measured, indent=1))


def write_files(source: Path, folder: Path, file: Path, rows: int) -> dict[str, object]:
    """Write a sample submission and a full submission.

    Args:
        source: the folder with the ids and the masks.
        folder: where ``sample_submission.csv`` is written.
        file: the submission to write.
        rows: number of rows; 0 for all ids.

    Returns:
        Number of rows, size of the submission in MB, and seconds to write it.
    """
    format = submission_format(load_competition(COMPETITION))
    ids = [row.id for row in read_mask_csv(source / "sample_submission_full.csv", format)][: rows or None]
    write_mask_csv(folder / "sample_submission.csv", format, ((id, 0, "1 1") for id in ids))
    masks = [row.rle for row in read_mask_csv(source / "train_masks.csv", format)]
    started = time.perf_counter()
    write_mask_csv(file, format, ((id, 0, masks[number % len(masks)]) for number, id in enumerate(ids)))
    return {
        "rows": len(ids),
        "megabytes": round(file.stat().st_size / 1e6),
        "write_s": round(time.perf_counter() - started, 1),
    }


def measure_upload(data: Path, file: Path) -> dict[str, object]:
    """Check a submission, then upload it without a second check.

    Args:
        data: the folder with ``sample_submission.csv``.
        file: the submission.

    Returns:
        Seconds of the check and of the upload, peak memory in MiB of this process and of the Kaggle client, and the
        status of the submission.
    """
    competition = load_competition(COMPETITION)
    started = time.perf_counter()
    shapes = expected_shapes(competition, data)
    report = check_submission(file, competition, shapes)
    report.raise_if_bad()
    checked = time.perf_counter()
    with patch.object(upload, "check_submission", lambda *_: report):
        entry = upload.submit_file(competition, data, file, "full", ledger=file.parent / "ledger.csv")
    return {
        "check_s": round(checked - started, 1),
        "submit_s": round(time.perf_counter() - checked, 1),
        "own_peak_mb": peak_megabytes(resource.RUSAGE_SELF),
        "client_peak_mb": peak_megabytes(resource.RUSAGE_CHILDREN),
        "status": entry.status,
    }


def peak_megabytes(who: int) -> int:
    """Return the peak memory in MiB of this process (``RUSAGE_SELF``) or its children (``RUSAGE_CHILDREN``)."""
    return resource.getrusage(who).ru_maxrss // 1024


if __name__ == "__main__":
    run(main)
