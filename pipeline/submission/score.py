"""Score a finished submission with the competition's metric, where the ground truth is known."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.mask_csv import MaskCsvLookup, MaskRow, read_mask_csv
from pipeline.data.masks import Shape
from pipeline.data.rle import expand_runs, merge_runs, rle_format
from pipeline.data.row_format import RowFormat, submission_format
from pipeline.data.samples import RowKey, load_test_samples
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.metrics import load_metric
from pipeline.metrics.instances import InstanceMetric
from pipeline.metrics.pixels import PixelMetric
from pipeline.parallel import map_parallel
from pipeline.paths import competition_toml
from pipeline.submission.rows import count_pixels, group_runs, require_known
from pipeline.submission.shapes import expected_shapes
from pipeline.submission.volumes import VolumeScore, score_volumes


def score_submission(
    path: Path, solution: Path, competition: Competition, shapes: Mapping[RowKey, Shape]
) -> pd.DataFrame:
    """Score every image and class at native size, computed on runs. The leaderboard score is the mean.

    Args:
        path: the submission; its rows may have any order.
        solution: the ground-truth masks in the same format.
        competition: its format and metric are used.
        shapes: (height, width) of each row, from `expected_shapes`.

    Returns:
        Columns id, class (its name; empty without classes) and score, in the order of the solution.

    Raises:
        UserError: the ids of the files differ or one is repeated, a file is unreadable or empty, or a mask is invalid.
    """
    metric = load_metric(competition)
    if isinstance(metric, PixelMetric):
        counts = dict(_count_pixels(path, solution, competition, shapes))
        overlap, predicted, true = np.array(list(counts.values()), dtype=np.int64).reshape(-1, 3).T
        scores = dict(zip(counts, metric.formula(overlap, predicted, true).tolist(), strict=True))
    else:
        assert isinstance(metric, InstanceMetric)
        scores = dict(_score_instances(path, solution, competition, shapes, metric))
    if not scores:
        raise UserError(solution, "has no rows", "download it again")
    names = competition.classes or ("",)
    rows = [(id, names[class_index], score) for (id, class_index), score in scores.items()]
    return pd.DataFrame(rows, columns=["id", "class", "score"])


def _count_pixels(
    path: Path, solution: Path, competition: Competition, shapes: Mapping[RowKey, Shape]
) -> Iterator[tuple[RowKey, tuple[int, int, int]]]:
    """Count the pixels in both masks, in the predicted and in the true mask of each row, in constant memory."""
    format = submission_format(competition)
    with MaskCsvLookup(path, format) as submitted:
        count = partial(count_pixels, path, solution, rle_format(competition))
        pairs = _pair_rows(submitted, solution, format, shapes)
        size = lambda pair: len(pair[0].rle) + len(pair[1].rle)  # noqa: E731
        with closing(map_parallel(count, pairs, size)) as results:
            for (truth, *_), counts in tqdm(results, desc="score", unit=" rows", delay=2):
                yield truth.key, counts
        submitted.finish()


def _pair_rows(
    submitted: MaskCsvLookup, solution: Path, format: RowFormat, shapes: Mapping[RowKey, Shape]
) -> Iterator[tuple[MaskRow, MaskRow, int]]:
    """Yield each row of the solution with that of the submission and the number of pixels of the image."""
    seen: set[RowKey] = set()
    for truth in read_mask_csv(solution, format):
        require_known(truth, solution, shapes)
        if truth.key in seen:
            what = f"line {truth.line} repeats {format.describe_key(*truth.key)}"
            raise UserError(solution, what, "remove one of its rows")
        seen.add(truth.key)
        height, width = shapes[truth.key]
        yield truth, submitted.take(truth.key), height * width


def _score_instances(
    path: Path, solution: Path, competition: Competition, shapes: Mapping[RowKey, Shape], metric: InstanceMetric
) -> Iterator[tuple[RowKey, float]]:
    """Score image by image. All rows of both files are kept in memory."""
    predicted, true = (group_runs(file, competition, shapes) for file in (path, solution))
    format = submission_format(competition)
    if missing := [key for key in true if key not in predicted]:
        raise UserError(path, f"has no row for {format.describe_key(*missing[0])}", "predict again")
    if extra := [key for key in predicted if key not in true]:
        what = f"has a row for {format.describe_key(*extra[0])}, which is not in the solution"
        raise UserError(path, what, "remove the row from the submission")
    for key in tqdm(true, desc="score", unit=" images", delay=2):
        height, width = shapes[key]
        pixels = height * width
        # The order of the pixels does not matter, as long as it is the same on both sides.
        labels = np.zeros(pixels, dtype=np.int32)
        objects = [runs for runs in predicted[key] if len(runs)]
        for number, runs in enumerate(objects, 1):
            labels[expand_runs(runs)] = number
        truth = [expand_runs(runs) for runs in true[key] if len(runs)]
        yield key, metric.score_objects(labels, len(objects), truth)


def score_submitted_volumes(path: Path, solution: Path, competition: Competition, data: Path) -> VolumeScore:
    """Score a submission of slices by the metric of volumes. All rows of both files are kept in memory.

    Args:
        path: the submission.
        solution: the ground-truth masks in the same format.
        competition: its metric is that of volumes.
        data: the data folder; its test images tell which slices are of one volume.

    Raises:
        UserError: see `score_submission`; or an image of the solution is missing.
    """
    shapes = expected_shapes(competition, data, solution)
    predicted, true = (
        {key: merge_runs(runs) for key, runs in group_runs(file, competition, shapes).items()}
        for file in (path, solution)
    )
    slices = [sample for sample in load_test_samples(competition, data) if (sample.id, 0) in true]
    classes = range(competition.num_classes)
    return score_volumes(
        slices,
        competition.num_classes,
        predicted,
        lambda sample: ([true[sample.id, number] for number in classes], shapes[sample.id, 0]),
        competition.csv.order,
    )


def solution_csv(competition: Competition, data: Path) -> Path:
    """Return the file of the ground-truth masks.

    Raises:
        UserError: the competition has no ``csv.solution``.
    """
    if competition.csv.solution is None:
        raise UserError(competition_toml(competition.name), "has no csv.solution", "give one with --solution")
    return data / competition.csv.solution


def save_scores(scores: pd.DataFrame, competition: Competition, data: Path, path: Path) -> None:
    """Write the scores of a submission as a CSV for `pipeline.evaluation.statistics.paired_gain`.

    Args:
        scores: table that `score_submission` returns.
        competition: its test images are used for the groups.
        data: the data folder.
        path: the CSV: id, group, class, score.

    Raises:
        UserError: an image that was scored is missing.
    """
    groups = {sample.id: sample.group for sample in load_test_samples(competition, data)}
    if missing := [id for id in scores.id if id not in groups]:
        raise UserError(missing[0], "was scored, but its image is missing", "download the image")
    table = scores.assign(group=scores.id.map(groups))[["id", "group", "class", "score"]]
    write_text(path, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def describe_scores(scores: pd.DataFrame, competition: Competition, path: Path, worst: int) -> str:
    """Return the worst rows, the mean of each class and the mean score as lines of text."""
    label = load_metric(competition).label
    lines = [f"{score:.6f}  {f'{id} {name}'.strip()}" for id, name, score in _worst_rows(scores, worst)]
    if competition.classes:
        lines += [f"{name}: {label} {mean:.6f}" for name, mean in scores.groupby("class").score.mean().items()]
    images = f"{len(scores):,} rows" if competition.classes else f"{len(scores):,} images"
    return "\n".join([*lines, f"{path}: {label} {scores.score.mean():.6f}, mean of {images}"])


def _worst_rows(scores: pd.DataFrame, count: int) -> list[tuple[str, str, float]]:
    return list(scores.nsmallest(count, "score").itertuples(index=False, name=None))
