"""Predict the test set and write a checked submission."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.folds import fingerprint_ids
from pipeline.data.mask_csv import write_mask_csv
from pipeline.data.row_format import submission_format
from pipeline.data.samples import Sample, load_submission_samples, read_submission_keys
from pipeline.errors import UserError
from pipeline.files import fingerprint_file, write_text
from pipeline.host import git_commit
from pipeline.inference.ensemble import choose_prediction_device, load_ensemble_member
from pipeline.inference.postprocess import Postprocess, default_postprocess
from pipeline.inference.rows import RowEncoder
from pipeline.inference.spool import RowSpool
from pipeline.inference.stream import predict_rows
from pipeline.paths import rejected_submission, submission_metadata, submission_spool
from pipeline.recipe import Recipe, ensemble_name
from pipeline.submission.check import check_submission, reference_ratios
from pipeline.submission.shapes import expected_shapes

log = logging.getLogger(__name__)


def write_submission(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    weights: Sequence[Sequence[Path]],
    out: Path,
    *,
    ensemble_weights: Sequence[float] | None = None,
    postprocess: Postprocess | None = None,
    metadata: Mapping[str, object] | None = None,
    minutes: float | None = None,
    best_effort: bool = False,
) -> bool:
    """Predict the test set with an ensemble of recipes, write the rows and check the file.

    Finished rows are kept next to `out` until the file is complete, so an interrupted call resumes.

    Args:
        competition: describes the data.
        recipes: the recipes as they are today; their ``predict`` tables are used.
        data: the data folder.
        weights: the weights files of each recipe.
        out: a .csv or .csv.gz file; how it was made is written to `submission_metadata(out)`.
        ensemble_weights: weights of the recipes, with sum 1; equal weights if None. Recipes with weight 0 are skipped.
        postprocess: thresholds and smallest areas; the first recipe's threshold if None.
        metadata: more to write into the JSON file.
        minutes: stop after this time and keep the finished rows.
        best_effort: write a file in any case: empty masks for images that cannot be read or for which the time was not
            enough, and problems of the check as log messages. For notebooks whose only result is the file.

    Returns:
        Whether the file is finished.

    Raises:
        UserError: weights or images are missing or damaged, or the submission does not pass its check.
    """
    samples = load_submission_samples(competition, data)
    ensemble_weights = list(ensemble_weights or [1 / len(recipes)] * len(recipes))
    postprocess = postprocess or default_postprocess(competition, recipes[0].predict.threshold)
    device = choose_prediction_device(recipes)
    used = [entry for entry in zip(recipes, weights, ensemble_weights, strict=True) if entry[-1] > 0]
    members = [load_ensemble_member(files, device, recipe)[0] for recipe, files, _ in used]
    made_by = {
        "competition": competition.name,
        "recipe": ensemble_name(recipes),
        "weights": [[fingerprint_file(path) for path in files] for files in weights],
        "flips": [list(recipe.predict.flips) for recipe in recipes],
        "ensemble_weights": ensemble_weights,
        "threshold": postprocess.thresholds,
        "min_area": postprocess.min_areas,
        "images": fingerprint_ids(samples),
    }
    spool = RowSpool(submission_spool(out), made_by)
    left = [sample for sample in samples if sample.id not in spool.done]
    if spool.done:
        log.info("%s: resumes after %d finished rows", out, len(spool.done))
    deadline = time.monotonic() + 60 * minutes if minutes is not None else None
    bar = tqdm(total=len(samples), initial=len(spool.done), desc="predict", unit="img")
    used_weights = [weight for *_, weight in used]
    on_unreadable = _log_unreadable if best_effort else None
    with spool, bar:
        for id, rows in predict_rows(members, left, competition, postprocess, used_weights, on_unreadable):
            spool.add(id, rows)
            bar.update()
            if deadline and time.monotonic() > deadline:
                break
        if best_effort:
            _add_empty_rows(spool, samples, competition, postprocess)
    if len(spool.done) < len(samples):
        log.info("%s: stopped at %d of %d rows; the same command resumes", out, len(spool.done), len(samples))
        return False
    # Only a file that has passed its check gets the name; until then an older file keeps it.
    candidate = rejected_submission(out)
    # In a sample submission of instances, a key says only which images there are.
    keys = read_submission_keys(competition, data) if competition.csv.rows == "class" else None
    rows_in_order = spool.rows([sample.id for sample in samples], keys)
    write_mask_csv(candidate, submission_format(competition), rows_in_order)
    report = check_submission(
        candidate, competition, expected_shapes(competition, data), reference_ratios(competition, data)
    )
    if best_effort and not report.good:
        log.error("%s", report.describe())
    else:
        report.raise_if_bad()
    for warning in report.warnings:
        log.warning("%s: %s", out, warning)
    description = made_by | {"commit": git_commit()} | dict(metadata or {})
    write_text(submission_metadata(out), json.dumps(description, indent=1) + "\n")
    candidate.replace(out)
    spool.remove()
    return True


def _log_unreadable(error: UserError) -> None:
    log.error("%s; its mask is left empty", error)


def _add_empty_rows(
    spool: RowSpool, samples: Sequence[Sample], competition: Competition, postprocess: Postprocess
) -> None:
    """Add rows of empty masks for all samples that have none."""
    left = [sample for sample in samples if sample.id not in spool.done]
    if left:
        log.error("%d of %d images are not predicted; their masks are left empty", len(left), len(samples))
    empty = RowEncoder(competition, postprocess).encode(np.zeros((competition.num_classes, 1, 1), dtype=bool))
    for sample in left:
        spool.add(sample.id, empty)
