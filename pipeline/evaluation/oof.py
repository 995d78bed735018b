"""Out-of-fold (OOF) evaluation: every training image is predicted by the model that was not trained on it.

The mean score estimates the leaderboard score. Its 95 % confidence interval is a bootstrap over groups, because images
of one group (the views of one car) succeed or fail together.

Several recipes are evaluated as the weighted mean of their probabilities, and the weights are fitted here: their
models of one fold have the same validation images. Fold models of one recipe have equal weights: no image is out of
fold for two of them, so other weights cannot be fitted without leakage.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.folds import fingerprint_ids, read_folds, split_samples
from pipeline.data.labels import LabelReader
from pipeline.data.mask_csv import write_mask_csv
from pipeline.data.rle import merge_runs
from pipeline.data.row_format import submission_format
from pipeline.data.samples import Sample, load_test_samples, load_training_samples
from pipeline.data.window_reader import WindowReader
from pipeline.errors import UserError
from pipeline.evaluation.analysis import analyze
from pipeline.evaluation.observe import Observer
from pipeline.evaluation.observe_windows import observe_windows
from pipeline.evaluation.result import Evaluation
from pipeline.evaluation.summary import summarize
from pipeline.files import write_text
from pipeline.inference.ensemble import EnsembleMember, choose_prediction_device, load_ensemble_member
from pipeline.inference.postprocess import default_postprocess
from pipeline.inference.stream import predict_probabilities
from pipeline.metrics import load_metric
from pipeline.models.checkpoint import read_weights_metadata
from pipeline.models.device import ComputeDevice
from pipeline.paths import Run, fold_run, label_cache, oof_csv, oof_masks_csv
from pipeline.recipe import Recipe
from pipeline.submission.rows import group_runs
from pipeline.submission.volumes import score_volumes


def evaluate_oof(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    folds_csv: Path,
    runs_folders: Sequence[Path],
    folds: Sequence[int],
    results: Path,
) -> tuple[Evaluation, pd.DataFrame]:
    """Predict the validation images of some folds with one recipe or an ensemble, and summarize the scores.

    Args:
        competition: describes the data.
        recipes: the recipes that the runs were trained with.
        data: the data folder.
        folds_csv: the fold of every image.
        runs_folders: the runs folder of each recipe.
        folds: the folds to evaluate.
        results: the folder for ``oof.csv``, ``oof_masks.csv.gz`` and ``analysis.json``.

    Returns:
        The evaluation, and the table of ``oof.csv`` with one row per image: id, group, fold, score, with several
        classes a column for the score of each, and the figures of `measure_masks` at the default threshold.

    Raises:
        UserError: a fold is not trained, or was trained with another recipe or another split.
    """
    samples = load_training_samples(competition, data)
    fold_of = read_folds(folds_csv, samples)
    device = choose_prediction_device(recipes)
    metric, labels = load_metric(competition), LabelReader(competition, label_cache(competition.name))
    read_truth = partial(labels.read_truth, instances=metric.needs_instances)
    observer = Observer(competition, metric, default_postprocess(competition, recipes[0].predict.threshold))

    def predict_masks() -> Iterator[tuple[str, int, str]]:
        for fold in folds:
            samples_of_fold = split_samples(samples, fold_of, fold)[1]
            members = load_fold_members(recipes, runs_folders, fold, device, samples_of_fold, folds_csv)
            if competition.windows:
                windows = WindowReader(competition, labels)
                measured = observe_windows(observer, competition, members, samples_of_fold, windows, fold)
            else:
                stream = predict_probabilities(
                    members, samples_of_fold, competition.csv.size, read_truth, images=labels.images, unflipped=True
                )
                measured = observer.observe(stream, fold)
            bar = tqdm(total=len(samples_of_fold), desc=f"evaluate fold {fold}", unit="img")
            with bar, closing(measured) as observed:
                for id, image_rows in observed:
                    yield from ((id, class_index, rle) for class_index, rle in image_rows)
                    bar.update()

    write_mask_csv(oof_masks_csv(results), submission_format(competition), predict_masks())
    table = pd.DataFrame(observer.rows)
    test_groups = _count_test_groups(competition, data)
    summary = summarize(competition, metric, recipes, table, np.stack(observer.observations), test_groups)
    table.insert(3, "score", summary.scores.mean(axis=1))
    for number, name in enumerate(competition.classes):
        table.insert(4 + number, f"score_{name}", summary.scores[:, number])
    write_text(oof_csv(results), table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    analyze(competition, metric, observer, summary.curves).save(results)
    evaluation = summary.evaluation
    if competition.metric == "dice_hausdorff":
        known = set(table.id)
        slices = [sample for sample in samples if sample.id in known]
        classes = range(competition.num_classes)
        shapes = {(sample.id, number): labels.shape(sample) for sample in slices for number in classes}
        grouped = group_runs(oof_masks_csv(results), competition, shapes)
        runs = {key: merge_runs(parts) for key, parts in grouped.items()}
        volumes = score_volumes(slices, len(classes), runs, labels.read_runs, competition.csv.order)
        evaluation = evaluation.model_copy(update={"volumes": volumes})
    return evaluation, table


def load_fold_members(
    recipes: Sequence[Recipe],
    runs_folders: Sequence[Path],
    fold: int,
    device: ComputeDevice,
    validation: Sequence[Sample],
    folds_csv: Path,
) -> list[EnsembleMember]:
    """Load the model of one fold of each recipe, and check that it has not seen the validation images.

    Raises:
        UserError: a fold is not trained, or was trained with another recipe or another split.
    """
    members = []
    for recipe, runs_folder in zip(recipes, runs_folders, strict=True):
        run = fold_run(runs_folder, fold)
        require_trained(run, recipe)
        member, metadata = load_ensemble_member([run.weights], device, recipe)
        if metadata[0].held_out != fingerprint_ids(validation):
            what = f"was trained on another split than {folds_csv} and has seen some of its validation images"
            raise UserError(run.weights, what, f"delete {run.folder} and train it again")
        members.append(member)
    return members


def require_trained(run: Run, recipe: Recipe) -> None:
    """Raise a UserError if a run is not finished, or was trained with another recipe."""
    if not run.weights.exists():
        what = "its training is not finished" if run.checkpoint.exists() else "it is not trained"
        fold = run.folder.name.removeprefix("fold")
        raise UserError(run.folder, what, f"run `make train FOLD={fold} RECIPE={recipe.name}`")
    if differences := read_weights_metadata(run.weights)[0].training_differences(recipe):
        what = f"was trained with another recipe ({'; '.join(differences)})"
        raise UserError(run.weights, what, "train it again, or restore the recipe")


def _count_test_groups(competition: Competition, data: Path) -> int:
    """Count the groups of the test set; 0 if it is not there."""
    try:
        return len({sample.group for sample in load_test_samples(competition, data)})
    except UserError:
        return 0
