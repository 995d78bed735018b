"""Read the files of a run: its evaluation, scores, curves, trainings, and the properties of its images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.competition import Competition
from pipeline.data.attributes import read_attributes
from pipeline.data.samples import Sample, load_training_samples
from pipeline.errors import UserError
from pipeline.evaluation.analysis import Analysis, read_analysis
from pipeline.evaluation.result import Evaluation, read_evaluation
from pipeline.models.checkpoint import WeightsMetadata, read_weights_metadata
from pipeline.paths import evaluation_json, fold_run, oof_csv, oof_masks_csv, runs_folder, runs_folders
from pipeline.report.findings import mask_area_ranges


@dataclass(frozen=True)
class Training:
    """One finished training."""

    recipe: str
    fold: int
    metadata: WeightsMetadata
    epochs: tuple[Mapping[str, Any], ...]
    """The rows of ``metrics.jsonl``."""

    @property
    def name(self) -> str:
        """Name for legends."""
        return f"fold {self.fold}"

    @property
    def minutes(self) -> float | None:
        """Minutes of the training; None if unknown."""
        seconds = self.epochs[-1].get("seconds") if self.epochs else None
        return float(given) if (given := self.metadata.minutes) else seconds / 60 if seconds else None

    @property
    def images_per_second(self) -> float | None:
        """Training images per second; None if unknown, as for a recipe with two stages."""
        return float(given) if (given := self.metadata.images_per_second) else None


@dataclass(frozen=True)
class RunData:
    """Everything that the page of a run shows."""

    competition: Competition
    recipe: str
    """Its name, or several joined by ``+``."""
    runs: Path
    evaluation: Evaluation
    analysis: Analysis
    table: pd.DataFrame
    """One row per image of the training set, from ``oof.csv``."""
    samples: Mapping[str, Sample]
    attributes: Mapping[str, Mapping[str, str]]
    """Id -> name -> value."""
    trainings: tuple[Training, ...]


def load_run_data(competition: Competition, recipe: str, data: Path) -> RunData:
    """Read the results of a recipe, or of an ensemble of recipes.

    Raises:
        UserError: it is not evaluated, or was evaluated by an older version, or the images are not those of the
            evaluation.
    """
    runs = runs_folder(competition.name, recipe)
    evaluation, analysis = read_evaluation(runs), read_analysis(runs)
    again = f"run `make evaluate COMPETITION={competition.name} RECIPE={recipe}`"
    repeat = f"delete {evaluation_json(runs)} and {again}"
    if evaluation is None:
        raise UserError(evaluation_json(runs), "is missing: this recipe is not evaluated", again)
    if analysis is None or not oof_masks_csv(runs).exists():
        raise UserError(runs, "was evaluated by an older version, which left no curves and no masks", repeat)
    table = read_oof_table(runs, competition)
    samples = {sample.id: sample for sample in load_training_samples(competition, data)}
    if missing := sorted(set(table.id) - samples.keys()):
        raise UserError(
            data, f"has no image {missing[0]}, which was evaluated", "give the same DATA, or evaluate again"
        )
    attributes = _attributes(competition, data, [samples[id] for id in table.id], table)
    return RunData(
        competition,
        recipe,
        runs,
        evaluation,
        analysis,
        table,
        samples,
        attributes,
        tuple(_trainings(competition, recipe, evaluation.folds)),
    )


def read_oof_table(runs: Path, competition: Competition) -> pd.DataFrame:
    """Read ``oof.csv``; ids and groups are text.

    Raises:
        UserError: the file cannot be read.
    """
    path = oof_csv(runs)
    try:
        # Some ids look like numbers, some like the text NA.
        return pd.read_csv(path, dtype={"id": str, "group": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        what = f"cannot be read ({str(error)[:120]})"
        raise UserError(path, what, f"run `make evaluate COMPETITION={competition.name}` again") from None


def _attributes(
    competition: Competition, data: Path, samples: Sequence[Sample], table: pd.DataFrame
) -> dict[str, dict[str, str]]:
    attributes = read_attributes(competition, data, samples)
    for id, text in mask_area_ranges(table).items():
        attributes[id]["mask area"] = text
    for sample in samples:
        if sample.stratum:
            attributes[sample.id].setdefault(str(competition.groups and competition.groups.stratum), sample.stratum)
    return attributes


def _trainings(competition: Competition, recipe: str, folds: Sequence[int]) -> list[Training]:
    """List the trainings whose weights are still there."""
    found = []
    names = recipe.split("+")
    for name, folder in zip(names, runs_folders(competition.name, recipe), strict=True):
        for fold in folds:
            run = fold_run(folder, fold)
            if run.weights.exists():
                metadata = read_weights_metadata(run.weights)[1]
                found.append(Training(name, fold, metadata, tuple(read_epochs(run.metrics))))
    return found


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Read the rows of ``metrics.jsonl``; none if the file is missing.

    Raises:
        UserError: a line is not a JSON object.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise UserError(
            path, f"cannot be read ({error})", "delete it; the report then has no training curves"
        ) from None
    return [row for row in rows if isinstance(row, dict)]
