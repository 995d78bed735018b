"""Every competition file works from the layout of its download to a scored submission, by the file alone."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.competition import Competition, load_competition
from pipeline.data.check import check_data, format_findings, has_errors
from pipeline.data.folds import make_folds, read_folds, save_folds
from pipeline.data.labels import LabelReader
from pipeline.data.mask_areas import measure_mask_areas
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import rle_format, rle_to_mask
from pipeline.data.row_format import submission_format
from pipeline.data.samples import load_training_samples
from pipeline.data.window_reader import WindowReader
from pipeline.evaluation.analysis import read_analysis
from pipeline.evaluation.observe import LOST_COLUMNS
from pipeline.evaluation.oof import evaluate_oof
from pipeline.evaluation.predict import predict_as_evaluated
from pipeline.paths import fold_run, oof_masks_csv
from pipeline.recipe import Recipe
from pipeline.submission.check import check_submission, reference_ratios
from pipeline.submission.score import score_submission, score_submitted_volumes
from pipeline.submission.shapes import expected_shapes
from pipeline.training.fold import train_fold
from tests.competitions.layouts import LAYOUTS
from tests.helpers import changed


@dataclass(frozen=True)
class Case:
    """One competition: the input size of a small model, and the score that it must reach."""

    name: str
    size: tuple[int, int]
    score: float
    epochs: int = 12
    train: int = 24
    test: int = 6
    changes: dict[str, Any] = field(default_factory=dict)
    """Changed keys of the competition, for smaller images than its own."""

    def competition(self) -> Competition:
        """The competition with two folds and the solution of its layout."""
        return changed(load_competition(self.name), folds=2, csv__solution="solution.csv", **self.changes)


PACKAGES = {
    "siim-pneumothorax": ("pydicom",),
    "hubmap-kidney": ("tifffile", "zarr", "imagecodecs"),
    "vesuvius-ink": ("tifffile", "zarr"),
}
CASES = [
    Case("nuclei-instances", (96, 96), 0.55, epochs=8),
    Case("tgs-salt", (96, 96), 0.7),
    Case("airbus-ship", (96, 96), 0.6),
    Case("severstal-steel", (200, 32), 0.85, epochs=30, train=32),
    Case("understanding-clouds", (64, 48), 0.75, epochs=12, train=32),
    Case("sartorius-cells", (128, 96), 0.5, epochs=8),
    Case("siim-pneumothorax", (128, 128), 0.8),
    Case("uw-madison-gi", (96, 96), 0.8, epochs=20, train=32, test=8),
    Case(
        "hubmap-kidney",
        (96, 96),
        0.8,
        epochs=3,
        train=8,
        test=3,
        changes={"windows__size": (160, 160), "windows__per_image": 20},
    ),
    Case(
        "vesuvius-ink",
        (64, 64),
        0.7,
        epochs=4,
        train=3,
        test=2,
        changes={"windows__size": (64, 64), "windows__per_image": 20, "windows__margin": 16},
    ),
]


def small_recipe(case: Case) -> Recipe:
    """A model that learns the shapes of a layout in seconds."""
    return Recipe.model_validate(
        {
            "name": "small",
            "input": {"size": case.size},
            "network": {"name": "unet", "width": 8, "depth": 3},
            "train": {
                "epochs": case.epochs,
                "batch_size": 2,
                "learning_rate": 0.02,
                "precision": "float32",
                "ema_decay": 0.8,
                "validate_every": case.epochs,
            },
        }
    )


def require_packages(name: str) -> None:
    """Skip a competition whose files need packages that are not installed."""
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package, reason="the packages of requirements-formats.txt are not installed")


def write_trivial(competition: Competition, data: Path, out: Path) -> Path:
    """Write the submission that predicts nothing."""
    keys = expected_shapes(competition, data)
    write_mask_csv(out, submission_format(competition), ((id, number, competition.csv.empty) for id, number in keys))
    return out


def check_what_evaluation_leaves(competition: Competition, data: Path, runs: Path, table: pd.DataFrame) -> None:
    """The masks are those that were measured, and the curves are complete, whatever the metric and the rows are."""
    labels, lost, found, pixels = LabelReader(competition), {}, defaultdict(list), 0
    for row in read_mask_csv(oof_masks_csv(runs), submission_format(competition)):
        found[row.id].append(row)
    for sample in load_training_samples(competition, data):
        if sample.id in found:
            truth = labels.read_truth(sample, instances=False).masks
            if sample.block is not None:
                left, top, width, height = WindowReader(competition, labels).region(sample)
                truth = truth[:, top : top + height, left : left + width]
            masks = np.zeros_like(truth)
            for row in found[sample.id]:
                masks[row.class_index] |= rle_to_mask(row.rle, truth.shape[1:], rle_format(competition))
            counts = [(a.sum() + b.sum(), (a != b).sum()) for a, b in zip(masks, truth, strict=True)]
            lost[sample.id] = np.mean([wrong / total if total else 0 for total, wrong in counts])
            pixels += truth[0].size
    assert table.set_index("id")[list(LOST_COLUMNS)].sum(axis=1).to_dict() == pytest.approx(lost)

    analysis = read_analysis(runs)
    assert analysis is not None
    assert [curves.name for curves in analysis.classes] == list(competition.classes or [""])
    for curves in analysis.classes:
        assert len(curves.scores) == len(analysis.thresholds)
        assert sum(bin.pixels for bin in curves.calibration) == pixels
    assert analysis.flip_gain is None, "the recipe has no flips"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_from_download_to_score(case: Case, tmp_path: Path) -> None:
    require_packages(case.name)
    data, folds_csv, runs = tmp_path / "data", tmp_path / "folds.csv", tmp_path / "runs"
    LAYOUTS[case.name](data, np.random.default_rng(0), case.train, case.test)
    competition = case.competition()
    recipe = small_recipe(case)

    findings = check_data(competition, data)
    assert not has_errors(findings), format_findings(findings, data)

    samples = load_training_samples(competition, data)
    save_folds(make_folds(samples, measure_mask_areas(samples, competition), 2), folds_csv)
    assert train_fold(competition, recipe, data, folds_csv, 0, fold_run(runs, 0))

    evaluation, table = evaluate_oof(competition, [recipe], data, folds_csv, [runs], [0], runs)
    fold_of = read_folds(folds_csv, samples)
    assert sorted(table.id) == sorted(id for id, fold in fold_of.items() if fold == 0)
    assert len(evaluation.classes) == competition.num_classes
    evaluation.save(runs)
    check_what_evaluation_leaves(competition, data, runs, table)

    out = tmp_path / "submission.csv.gz"
    assert predict_as_evaluated(competition, [recipe], data, [runs], [0], runs, out)
    shapes = expected_shapes(competition, data)
    report = check_submission(out, competition, shapes, reference_ratios(competition, data))
    assert report.good, report.describe()

    solution = data / "solution.csv"
    trivial = score_submission(
        write_trivial(competition, data, tmp_path / "trivial.csv"), solution, competition, shapes
    )
    scores = score_submission(out, solution, competition, shapes)
    print(f"{case.name}: {len(scores)} rows, {scores.score.mean():.3f}, trivial {trivial.score.mean():.3f}")
    if competition.metric == "dice_hausdorff":
        assert evaluation.volumes is not None
        volumes = score_submitted_volumes(out, solution, competition, data)
        print(f"{case.name}: volumes {volumes.score:.3f}, out of fold {evaluation.volumes.score:.3f}")
        assert min(volumes.score, evaluation.volumes.score) > case.score
        assert "volumes" in evaluation.describe()
    assert scores.score.mean() > case.score
    assert scores.score.mean() > trivial.score.mean() + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_true_masks_pass_the_check_and_score_one(name: str, tmp_path: Path) -> None:
    """The check refuses no correct submission, and the metric of the ground truth is 1."""
    require_packages(name)
    LAYOUTS[name](tmp_path, np.random.default_rng(1), 12, 4)
    competition = changed(load_competition(name), folds=2, csv__solution="solution.csv")
    shapes = expected_shapes(competition, tmp_path)
    solution = tmp_path / "solution.csv"
    report = check_submission(solution, competition, shapes, reference_ratios(competition, tmp_path))
    assert report.good, report.describe()
    assert not [warning for warning in report.warnings if "compared masks" in warning.reason], report.describe()
    if competition.metric == "dice_hausdorff":
        assert score_submitted_volumes(solution, solution, competition, tmp_path).score == 1
    scores = score_submission(solution, solution, competition, shapes)
    assert scores.score.tolist() == [1.0] * len(scores)
