"""Out of fold: every training image is predicted by the network that has not seen it, and what follows from that.

The mean is what to expect on the leaderboard; its interval comes from drawing cars, not images, again and again, since
the 16 views of one car succeed or fail together. A test set of few cars scatters more than the mean of many: the
expected interval knows how many cars the test set has. It speaks of one network; the mean of folds does better.

Several recipes are judged as the weighted mean of their probabilities, and the weights are fitted here: their networks
of one fold have all not seen the same images. The folds of one recipe keep equal weights: every image is unseen by one
of them alone, so there is no honest prediction of their mean to fit on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from pipeline import fit, runs
from pipeline.competition import Competition, test_samples, training_samples
from pipeline.data.folds import fingerprint, hold_out
from pipeline.data.folds import read as read_folds
from pipeline.errors import UserError
from pipeline.evaluation import Evaluation, default_level
from pipeline.files import write_text
from pipeline.model import checkpoint, metrics
from pipeline.predict.ensemble import Member, device_for, load_member
from pipeline.predict.stream import Predicted, probabilities
from pipeline.recipe import Recipe, joined


def evaluate(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    folds_file: Path,
    folders: Sequence[Path],
    folds: Sequence[int],
    results: Path,
) -> tuple[Evaluation, pd.DataFrame]:
    """Predict the held-out images of some folds by one recipe or the mean of several, and judge them.

    Args:
        competition: what the data is.
        recipes: the ones that the runs must have been trained by.
        data: the folder that holds the competition's files.
        folds_file: which images are held out.
        folders: of each recipe's runs.
        folds: which ones.
        results: where `oof.csv` goes.

    Returns:
        The evaluation, and a table with one row per image: id, group, fold, dice, accuracy, area, predicted_area.

    Raises:
        UserError: a fold is not trained, was trained by another recipe, or on another split.
    """
    samples = training_samples(competition, data)
    fold_of = read_folds(folds_file, samples)
    device = device_for(recipes)
    tables, counts = [], []
    for fold in folds:
        _, held_out = hold_out(samples, fold_of, fold)
        members: list[Member] = []
        for recipe, folder in zip(recipes, folders, strict=True):
            run = runs.of_fold(folder, fold)
            require_trained(run, recipe)
            member, origins = load_member([run.weights], device, recipe)
            if origins[0].held_out != fingerprint(held_out):
                raise UserError(
                    f"{run.weights}: was trained on another split than {folds_file} and has seen images it would be "
                    f"judged on; delete {run.folder} and train it again"
                )
            members.append(member)
        bar = tqdm(total=len(held_out), desc=f"evaluate fold {fold}", unit="img")
        with bar:
            for item in probabilities(members, held_out, truth=competition):
                counts.append(count(item))
                bar.update()
        tables.append(
            pd.DataFrame({"id": [s.id for s in held_out], "group": [s.group for s in held_out], "fold": fold})
        )
    table = pd.concat(tables, ignore_index=True)
    by_weights = np.stack(counts)
    evaluation = judge(competition, recipes, table, by_weights, _test_groups(competition, data))
    histograms = by_weights[:, fit.weightings(len(recipes)).index(tuple(evaluation.weights))]
    level = round(evaluation.threshold * metrics.LEVELS)
    pixels = histograms.sum(axis=(1, 2))
    table["dice"] = metrics.dice_by_threshold(histograms)[:, level]
    table["accuracy"] = metrics.accuracy_by_threshold(histograms)[:, level]
    table["area"] = histograms[:, 1].sum(axis=1) / pixels
    table["predicted_area"] = histograms[:, :, level:].sum(axis=(1, 2)) / pixels
    write_text(results / "oof.csv", table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    return evaluation, table


def _test_groups(competition: Competition, data: Path) -> int:
    """How many groups the test set has; 0 if it is not here."""
    try:
        return len({sample.group for sample in test_samples(competition, data)})
    except UserError:
        return 0


def count(item: Predicted) -> np.ndarray:
    """The histograms of an image with its truth, for each of the weights to try: (weightings, 2, LEVELS) int32."""
    truth = torch.from_numpy(item.truth).to(item.by_member[0].device)
    shares = fit.weightings(len(item.by_member))
    return np.stack([metrics.histogram(item.mean(each), truth) for each in shares]).astype(np.int32)


def judge(
    competition: Competition,
    recipes: Sequence[Recipe],
    table: pd.DataFrame,
    by_weights: np.ndarray,
    test_groups: int,
) -> Evaluation:
    """Scores, interval, weights and threshold from the histograms of all held-out images.

    Args:
        competition: for its name.
        recipes: the members of the ensemble.
        table: as in `evaluate`, with one row per image.
        by_weights: (images, weightings, 2, LEVELS), from `count`.
        test_groups: how many groups the test set has; taken for as many as there are here if 0.
    """
    groups = table.group.to_numpy()
    default = default_level(recipes)
    tried = fit.weightings(len(recipes))
    # One after another: all of them at all thresholds would take gigabytes.
    at_default = np.stack(
        [metrics.dice_by_threshold(by_weights[:, number])[:, default] for number in range(len(tried))], axis=1
    )
    weights = fit.fit(at_default, groups, default=0)
    alone = at_default[:, [tried.index(tuple(row)) for row in np.eye(len(recipes))]]
    best_alone = int(alone.mean(axis=0).argmax())
    # Fitted weights where they were not fitted; only the best recipe has the advantage of having been picked.
    together = fit.nested(at_default, groups, default=0) if weights.used else at_default[:, 0]
    ensemble_gain = together - alone[:, best_alone]

    histograms = by_weights[:, weights.used]
    by_threshold = metrics.dice_by_threshold(histograms)
    # At threshold 0 everything is mask, whatever the network says.
    threshold = fit.fit(by_threshold[:, 1:], groups, default - 1)
    level = threshold.used + 1
    scores = by_threshold[:, level]
    return Evaluation(
        competition=competition.name,
        recipe=joined(recipes),
        folds=sorted(table.fold.unique().tolist()),
        flips=[list(recipe.predict.flips) for recipe in recipes],
        images=len(table),
        groups=len(set(groups)),
        dice=float(scores.mean()),
        interval=list(fit.bootstrap(scores, groups)),
        test_groups=test_groups or len(set(groups)),
        expected=list(fit.expected(scores, groups, test_groups or len(set(groups)))),
        accuracy=float(metrics.accuracy_by_threshold(histograms)[:, level].mean()),
        dice_by_fold={str(fold): float(scores[table.fold == fold].mean()) for fold in sorted(table.fold.unique())},
        threshold=level / metrics.LEVELS,
        best_threshold=(threshold.best + 1) / metrics.LEVELS,
        threshold_gain=threshold.gain,
        threshold_gain_interval=list(threshold.interval),
        default_threshold=default / metrics.LEVELS,
        weights=list(tried[weights.used]),
        best_weights=list(tried[weights.best]),
        weights_gain=weights.gain,
        weights_gain_interval=list(weights.interval),
        best_recipe=recipes[best_alone].name,
        ensemble_gain=float(ensemble_gain.mean()),
        ensemble_gain_interval=list(fit.bootstrap(ensemble_gain, groups)),
        commit=checkpoint.commit(),
    )


@dataclass(frozen=True)
class Gain:
    """What one choice adds to another, on the same images."""

    mean: float
    interval: tuple[float, float]
    """95 %, from a bootstrap over groups of the paired differences."""
    images: int
    groups: int

    @property
    def real(self) -> bool:
        """Whether chance alone would hardly give such a difference, for better or worse."""
        return self.interval[0] > 0 or self.interval[1] < 0


def gain(first: Path, second: Path) -> Gain:
    """How much better the second of two tables of scores is than the first.

    Where a threshold or weights were fitted, a table's scores are those of the fitted choice on the very images it was
    fitted on, and a little too good; what the fit is really worth is printed by `evaluate`.

    Args:
        first: a CSV with the columns id, group, dice and any others: an `oof.csv`, or what `scripts.score` saves.
        second: another, of the same images in any order.

    Raises:
        UserError: a file cannot be read, lacks a column, or the two are not of the same images.
    """
    one, other = (_scores(path) for path in (first, second))
    if set(one.index) != set(other.index):
        odd = min(set(one.index) ^ set(other.index))
        raise UserError(
            f"{first} and {second} are not of the same images: {odd} is in one alone; evaluate the same folds"
        )
    groups = one.group.to_numpy()
    difference = (other.dice.reindex(one.index) - one.dice).to_numpy()
    return Gain(float(difference.mean()), fit.bootstrap(difference, groups), len(one), len(set(groups)))


def _scores(path: Path) -> pd.DataFrame:
    try:
        kinds = {"id": str, "group": str, "dice": float}
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False).set_index("id")[["group", "dice"]]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is not a table with id, group and dice ({str(error)[:120]}); evaluate again"
        ) from None
    if table.index.has_duplicates:
        raise UserError(f"{path}: has {table.index[table.index.duplicated()][0]} twice; evaluate again")
    return table


def require_trained(run: runs.Run, recipe: Recipe) -> None:
    """Raise a UserError if a run is not finished, or is of another recipe."""
    if not run.weights.exists():
        what = "its training is not finished" if run.state.exists() else "it is not trained"
        number = run.folder.name.removeprefix("fold")
        raise UserError(f"{run.folder}: {what}; run `make train FOLD={number} RECIPE={recipe.name}`")
    if differences := checkpoint.read_origin(run.weights)[0].differences(recipe):
        raise UserError(
            f"{run.weights}: was trained by another recipe ({'; '.join(differences)}); train it again or go back"
        )
