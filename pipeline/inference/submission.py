"""Predict the test set and write a checked submission."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.folds import fingerprint_ids
from pipeline.data.headers import Headers, read_headers
from pipeline.data.mask_csv import write_mask_csv
from pipeline.data.masks import Size
from pipeline.data.readers import ImageReader
from pipeline.data.row_format import submission_format
from pipeline.data.samples import Sample, load_submission_samples, read_submission_keys
from pipeline.files import lock, write_text
from pipeline.host import git_commit
from pipeline.inference.broken import BrokenImages, fallback_rows
from pipeline.inference.ensemble import EnsembleMember, choose_prediction_device, load_ensemble_member
from pipeline.inference.postprocess import Postprocess, default_postprocess
from pipeline.inference.rows import ImageRows
from pipeline.inference.shards import join_parts, mark_done, part_rows
from pipeline.inference.spool import RowSpool
from pipeline.inference.stream import predict_rows
from pipeline.inference.windows import predict_window_rows
from pipeline.interrupts import catch_stop_signals, raise_on_sigterm
from pipeline.models.checkpoint import fingerprint_weights
from pipeline.models.device import PREDICT_ON_CPU, explain_out_of_memory
from pipeline.paths import (
    rejected_submission,
    submission_doubts,
    submission_lock,
    submission_metadata,
    submission_spool,
)
from pipeline.recipe import Recipe, ensemble_name
from pipeline.shard import Shard
from pipeline.submission.check import check_submission, reference_ratios
from pipeline.submission.doubts import write_doubts
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
    allow_broken: bool = False,
    best_effort: bool = False,
    shard: Shard | None = None,
    merge: bool = False,
) -> bool:
    """Predict the test set with an ensemble of recipes, write the rows and check the file.

    Finished rows are kept next to `out` until the file is complete, so an interrupted call resumes. An image that
    cannot be predicted costs its own row only, which is filled (see `pipeline.inference.broken.fallback_rows`).

    Args:
        competition: describes the data.
        recipes: the recipes as they are today; their ``predict`` tables are used.
        data: the data folder.
        weights: the weights files of each recipe.
        out: a .csv or .csv.gz file; how it was made is written to `submission_metadata(out)`.
        ensemble_weights: weights of the recipes, with sum 1; equal weights if None. Recipes with weight 0 are skipped.
        postprocess: thresholds and minimum areas; the first recipe's threshold if None.
        metadata: more to write into the JSON file.
        minutes: stop after this time and keep the finished rows.
        allow_broken: accept a file with filled rows.
        best_effort: write a file in any case, for notebooks whose only result is the file: fill also the rows for which
            the time was not enough, and only log the problems that the check finds. Implies `allow_broken`.
        shard: predict only this part of the images, into `part_rows(out, shard)`, for a later call with `merge`.
        merge: take the rows of all parts, which must be complete, instead of predicting.

    Returns:
        Whether the file, or the part, is finished.

    Raises:
        BrokenImagesError: images cannot be predicted; the file is complete but keeps its rejected name.
        UserError: weights or images are missing, another process predicts this file, or the submission does not pass
            its check.
        KeyboardInterrupt: stopped by SIGINT; finished rows are kept.
        SystemExit: stopped by SIGTERM, with code 143; finished rows are kept.
    """
    samples = load_submission_samples(competition, data)
    ensemble_weights = list(ensemble_weights or [1 / len(recipes)] * len(recipes))
    postprocess = postprocess or default_postprocess(competition, recipes[0].predict.threshold)
    used = [entry for entry in zip(recipes, weights, ensemble_weights, strict=True) if entry[-1] > 0]
    made_by = {
        "competition": competition.name,
        "recipe": ensemble_name(recipes),
        "weights": [[fingerprint_weights(path) for path in files] for _, files, _ in used],
        "flips": [list(recipe.predict.flips) for recipe in recipes],
        "ensemble_weights": ensemble_weights,
        "threshold": postprocess.thresholds,
        "min_area": postprocess.min_areas,
        "images": fingerprint_ids(samples),
    }
    busy = f"another process is predicting {out.name}"
    target = part_rows(out, shard) if shard else out
    with raise_on_sigterm(), lock(submission_lock(target), busy, keep=False):
        parts = join_parts(out, submission_spool(out), made_by, [sample.id for sample in samples]) if merge else []
        samples = list(shard.select(samples)) if shard else samples
        headers = read_headers(samples, ImageReader(competition))
        log.info("%s: %s", target, headers.describe())
        spool = RowSpool(target if shard else submission_spool(out), made_by)
        if spool.done and not merge:
            log.info("%s: resumes after %d finished rows", target, len(spool.done))
        task = _Task(competition, samples, headers, postprocess, spool, target)
        try:
            device = choose_prediction_device(recipes)
            members = [load_ensemble_member(files, device, recipe)[0] for recipe, files, _ in used]
            broken = task.predict(members, [weight for *_, weight in used], minutes)
            finished = len(spool.done) + len(broken.unreadable) == len(samples)
            if shard and finished:
                mark_done(out, shard, sorted(broken.unreadable))
                return True
            if not shard and (best_effort or finished):
                task.finish(data, broken, made_by | dict(metadata or {}), allow_broken or best_effort, best_effort)
                for part in parts:
                    part.unlink(missing_ok=True)
                return True
        except (KeyboardInterrupt, SystemExit):
            task.log_stopped()
            raise
        task.log_stopped()
        return False


class _Task:
    """The prediction of one submission: predict what is left, then write and check the file."""

    def __init__(
        self,
        competition: Competition,
        samples: Sequence[Sample],
        headers: Headers,
        postprocess: Postprocess,
        spool: RowSpool,
        out: Path,
    ) -> None:
        self.competition = competition
        self.samples = samples
        self.headers = headers
        self.postprocess = postprocess
        self.spool = spool
        self.out = out

    def log_stopped(self) -> None:
        """Say how much is done and how to go on."""
        done, total = len(self.spool.done), len(self.samples)
        log.info("%s: stopped at %d of %d rows; the same command resumes", self.out, done, total)

    def predict(
        self, members: Sequence[EnsembleMember], ensemble_weights: Sequence[float], minutes: float | None
    ) -> BrokenImages:
        """Predict the rows that are not in the spool yet, until the time is up or a signal stops it."""
        left = [sample for sample in self.samples if sample.id not in self.spool.done]
        broken = BrokenImages()
        deadline = time.monotonic() + 60 * minutes if minutes is not None else None
        bar = tqdm(total=len(self.samples), initial=len(self.spool.done), desc="predict", unit="img")
        doubts: dict[str, list[float]] = {}
        explain = explain_out_of_memory(self.out, 1, PREDICT_ON_CPU)
        # The spool is closed, and its buffer written, before the signal ends the program.
        with catch_stop_signals() as stop:

            def should_stop() -> bool:
                return stop.is_set() or (deadline is not None and time.monotonic() > deadline)

            windowed = partial(predict_window_rows, should_stop=should_stop)
            predict = windowed if self.competition.windows else predict_rows
            rows = predict(members, left, self.competition, self.postprocess, ensemble_weights, broken, doubts)
            with explain, self.spool, bar, closing(rows):
                for id, image_rows in rows:
                    self.spool.add(id, image_rows, doubts.pop(id))
                    bar.update()
                    if should_stop():
                        break
            stop.raise_if_set()
        broken.log_damaged()
        broken.log_unreadable()
        return broken

    def finish(
        self, data: Path, broken: BrokenImages, metadata: Mapping[str, object], allow_broken: bool, best_effort: bool
    ) -> None:
        """Fill missing rows, write the file, check it, and give it its name."""
        self._fill_rows(broken)
        # Only a file that has passed its check gets the name; until then an older file keeps it.
        candidate = rejected_submission(self.out)
        # In a sample submission of instances, a key says only which images there are.
        keys = read_submission_keys(self.competition, data) if self.competition.csv.rows == "class" else None
        rows_in_order = self.spool.rows([sample.id for sample in self.samples], keys)
        write_mask_csv(candidate, submission_format(self.competition), rows_in_order)
        shapes = expected_shapes(self.competition, data)
        report = check_submission(candidate, self.competition, shapes, reference_ratios(self.competition, data))
        if best_effort and not report.good:
            log.error("%s", report.describe())
        else:
            report.raise_if_bad()
        for warning in report.warnings:
            log.warning("%s: %s", self.out, warning)
        broken.require_allowed(candidate, len(self.samples), allow_broken)
        description = {**metadata, "commit": git_commit(), "filled": sorted(self.spool.filled)}
        write_text(submission_metadata(self.out), json.dumps(description, indent=1) + "\n")
        predicted = [sample.id for sample in self.samples if sample.id in self.spool.doubts]
        doubts = {(id, n): doubt for id in predicted for n, doubt in enumerate(self.spool.doubts[id])}
        write_doubts(submission_doubts(self.out), doubts)
        candidate.replace(self.out)
        self.spool.remove()

    def _fill_rows(self, broken: BrokenImages) -> None:
        """Fill the rows of images that are not predicted: broken ones, and those for which there was no time."""
        left = [sample for sample in self.samples if sample.id not in self.spool.done]
        if len(left) > len(broken.unreadable):
            late = len(left) - len(broken.unreadable)
            log.error("%d of %d images are not predicted; their masks are filled", late, len(self.samples))
        rows: dict[Size, ImageRows] = {}
        for sample in left:
            size = self.competition.csv.size or self.competition.images.size
            size = size or self.headers.sizes.get(sample.id) or self.headers.usual_size()
            if size not in rows:
                rows[size] = fallback_rows(self.competition, size)
            self.spool.filled[sample.id] = rows[size]
