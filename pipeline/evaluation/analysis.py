"""Curves of an out-of-fold evaluation for people to look at, written by `make evaluate`."""

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from pipeline.competition import Competition
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.evaluation.observe import Observer
from pipeline.evaluation.statistics import Estimate, estimate_mean
from pipeline.files import write_text
from pipeline.metrics import Metric
from pipeline.metrics.calibration import calibration_curve
from pipeline.paths import analysis_json


class CalibrationBin(Config):
    """The pixels whose probability is in one of `CALIBRATION_BINS` equal intervals."""

    probability: float
    """Mean probability; 0 without pixels."""
    true: float
    """Fraction that belongs to the true mask; 0 without pixels."""
    pixels: int


class ClassCurves(Config):
    """The curves of one class."""

    name: str
    """Empty for a single class."""
    scores: tuple[float, ...]
    """Mean score over images at each of `Analysis.thresholds`, without a minimum area, with the ensemble weights that
    the evaluation uses."""
    calibration: tuple[CalibrationBin, ...]
    """By rising probability: all pixels of all images at the size of submissions, with equal ensemble weights."""


class Analysis(Config):
    """Curves that do not fit into `Evaluation`; saved as ``analysis.json``."""

    thresholds: tuple[float, ...]
    """Thresholds of the probability that were tried, rising."""
    classes: tuple[ClassCurves, ...]
    """One entry for a competition without classes."""
    flip_gain: Estimate | None
    """Paired gain of the flips (test-time augmentation) over the unflipped images alone, at the default threshold with
    equal ensemble weights; None if the recipes have no flips to compare."""

    def save(self, runs: Path) -> None:
        """Write ``analysis.json`` into a runs folder."""
        write_text(analysis_json(runs), self.model_dump_json() + "\n")


def analyze(competition: Competition, metric: Metric, observer: Observer, curves: np.ndarray) -> Analysis:
    """Collect the curves.

    Args:
        competition: its classes are used.
        metric: its thresholds are used.
        observer: has seen all images.
        curves: (classes, thresholds) mean scores, from `pipeline.evaluation.summary.summarize`.
    """
    groups = np.array([row["group"] for row in observer.rows])
    classes = []
    for number, name in enumerate(competition.classes or ("",)):
        bins = calibration_curve(observer.histogram[number], observer.sums[number]).tolist()
        calibration = tuple(CalibrationBin(probability=mean, true=true, pixels=int(n)) for mean, true, n in bins)
        classes.append(ClassCurves(name=name, scores=tuple(curves[number].tolist()), calibration=calibration))
    gains = np.array(observer.flip_gains)
    return Analysis(
        thresholds=tuple(metric.thresholds.tolist()),
        classes=tuple(classes),
        flip_gain=estimate_mean(gains, groups) if len(gains) else None,
    )


def read_analysis(runs: Path) -> Analysis | None:
    """Read the analysis of a runs folder; None if there is none, as in folders of older versions.

    Raises:
        UserError: the file is damaged or was written by another version.
    """
    path = analysis_json(runs)
    try:
        return Analysis.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        what = f"cannot be read ({str(error).splitlines()[0]})"
        raise UserError(path, what, "delete it and run `make evaluate` again") from None
