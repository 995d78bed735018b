"""Out of fold: every training image is predicted by the network that has not seen it, and what follows from that.

The mean is what to expect on the leaderboard; its interval comes from drawing cars, not images, again and again, since
the 16 views of one car succeed or fail together.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from pipeline import runs
from pipeline.competition import Competition, training_samples
from pipeline.data.folds import fingerprint, hold_out
from pipeline.data.folds import read as read_folds
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.model import checkpoint, metrics
from pipeline.model.device import choose
from pipeline.predict.ensemble import Ensemble, load_members
from pipeline.predict.stream import probabilities
from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

DRAWS = 2000
PARTS = 5
"""Parts of the groups in the nested check of the threshold."""


@dataclass(frozen=True)
class Evaluation:
    """What the out-of-fold predictions say; saved as `evaluation.json`."""

    competition: str
    recipe: str
    folds: list[int]
    flips: list[str]
    images: int
    groups: int
    dice: float
    """Mean over images at `threshold`, at native size."""
    interval: list[float]
    """95 % interval of the mean, from a bootstrap over groups."""
    accuracy: float
    dice_by_fold: dict[str, float]
    threshold: float
    """The one to predict with: the best one if its gain is real, else the recipe's."""
    best_threshold: float
    threshold_gain: float
    """Gain of fitted thresholds on groups they were not fitted on."""
    threshold_gain_interval: list[float]
    default_threshold: float
    """The recipe's, as a level."""
    commit: str

    def describes(self, folds: Sequence[int], recipe: Recipe) -> bool:
        """Whether these folds, flips and this threshold are what was evaluated; says so in the log if not."""
        wanted = (sorted(folds), list(recipe.predict.flips), level_of(recipe.predict.threshold) / metrics.LEVELS)
        same = wanted == (self.folds, self.flips, self.default_threshold)
        if not same:
            log.warning("the evaluation is of other folds, flips or threshold, and is not used; run `make evaluate`")
        return same


def evaluate(
    competition: Competition,
    recipe: Recipe,
    data: Path,
    folds_file: Path,
    folder: Path,
    folds: Sequence[int],
    results: Path | None = None,
) -> tuple[Evaluation, pd.DataFrame]:
    """Predict the held-out images of some folds and judge them.

    Args:
        competition: what the data is.
        recipe: the one that the runs must have been trained by.
        data: the folder that holds the competition's files.
        folds_file: which images are held out.
        folder: of the runs.
        folds: which ones.
        results: where `evaluation.json` and `oof.csv` go; the folder of the runs if None.

    Returns:
        The evaluation, and a table with one row per image: id, group, fold, dice, accuracy, area, predicted_area.

    Raises:
        UserError: a fold is not trained, was trained by another recipe, or on another split.
    """
    samples = training_samples(competition, data)
    fold_of = read_folds(folds_file, samples)
    device = choose(recipe.train.precision_to_predict)
    tables, counts = [], []
    for fold in folds:
        run = runs.of_fold(folder, fold)
        require_trained(run, recipe)
        _, held_out = hold_out(samples, fold_of, fold)
        networks, _, origins = load_members([run.weights], device)
        if origins[0].held_out != fingerprint(held_out):
            raise UserError(
                f"{run.weights}: was trained on another split than {folds_file} and has seen images it would be judged "
                f"on; delete {run.folder} and train it again"
            )
        ensemble = Ensemble(networks, recipe.predict.flips, device)
        bar = tqdm(total=len(held_out), desc=f"evaluate fold {fold}", unit="img")
        with bar:
            for item in probabilities(ensemble, held_out, recipe, truth=competition):
                truth = torch.from_numpy(item.truth).to(device.torch)
                counts.append(metrics.histogram(item.probability, truth))
                bar.update()
        tables.append(
            pd.DataFrame({"id": [s.id for s in held_out], "group": [s.group for s in held_out], "fold": fold})
        )
    table = pd.concat(tables, ignore_index=True)
    histograms = np.stack(counts)
    evaluation = judge(competition, recipe, table, histograms)
    level = round(evaluation.threshold * metrics.LEVELS)
    pixels = histograms.sum(axis=(1, 2))
    table["dice"] = metrics.dice_by_threshold(histograms)[:, level]
    table["accuracy"] = metrics.accuracy_by_threshold(histograms)[:, level]
    table["area"] = histograms[:, 1].sum(axis=1) / pixels
    table["predicted_area"] = histograms[:, :, level:].sum(axis=(1, 2)) / pixels
    write_text((results or folder) / "oof.csv", table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    write_text((results or folder) / "evaluation.json", json.dumps(asdict(evaluation), indent=1) + "\n")
    return evaluation, table


def judge(competition: Competition, recipe: Recipe, table: pd.DataFrame, histograms: np.ndarray) -> Evaluation:
    """Scores, interval and threshold from the histograms of all held-out images; table as in `evaluate`."""
    by_threshold = metrics.dice_by_threshold(histograms)
    groups = table.group.to_numpy()
    default = level_of(recipe.predict.threshold)
    best = best_level(by_threshold, default)
    gain = nested_dice(by_threshold, groups, default) - by_threshold[:, default]
    gain_interval = bootstrap(gain, groups)
    level = best if gain_interval[0] > 0 else default
    scores = by_threshold[:, level]
    return Evaluation(
        competition=competition.name,
        recipe=recipe.name,
        folds=sorted(table.fold.unique().tolist()),
        flips=list(recipe.predict.flips),
        images=len(table),
        groups=len(set(groups)),
        dice=float(scores.mean()),
        interval=list(bootstrap(scores, groups)),
        accuracy=float(metrics.accuracy_by_threshold(histograms)[:, level].mean()),
        dice_by_fold={str(fold): float(scores[table.fold == fold].mean()) for fold in sorted(table.fold.unique())},
        threshold=level / metrics.LEVELS,
        best_threshold=best / metrics.LEVELS,
        threshold_gain=float(gain.mean()),
        threshold_gain_interval=list(gain_interval),
        default_threshold=default / metrics.LEVELS,
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
    return Gain(float(difference.mean()), bootstrap(difference, groups), len(one), len(set(groups)))


def _scores(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"id": str, "group": str}).set_index("id", verify_integrity=True)[
            ["group", "dice"]
        ]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is not a table with id, group and dice ({str(error)[:120]}); evaluate again"
        ) from None


def level_of(threshold: float) -> int:
    """The nearest level of a threshold, except the one that would put everything into the mask."""
    return min(max(round(threshold * metrics.LEVELS), 1), metrics.LEVELS - 1)


def best_level(by_threshold: np.ndarray, default: int) -> int:
    """The threshold with the best mean Dice, as a level; `default` if no other is better.

    Args:
        by_threshold: (images, LEVELS), Dice at every threshold.
        default: level to prefer among equals.
    """
    means = by_threshold[:, 1:].mean(axis=0)  # at threshold 0 everything is mask, whatever the network says
    best = int(means.argmax()) + 1
    return best if means[best - 1] > means[default - 1] else default


def nested_dice(by_threshold: np.ndarray, groups: np.ndarray, default: int) -> np.ndarray:
    """Dice of each image at the threshold that is best on other groups: what a fitted threshold is worth.

    Args:
        by_threshold: (images, LEVELS).
        groups: (images,), the group of each.
        default: level to prefer among equals.

    Returns:
        (images,) float.
    """
    names, codes = np.unique(groups, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names))[codes] % PARTS
    scores = by_threshold[:, default].copy()
    for number in range(PARTS):
        inside = part == number
        if inside.any() and not inside.all():
            scores[inside] = by_threshold[inside, best_level(by_threshold[~inside], default)]
    return scores


def bootstrap(values: np.ndarray, groups: np.ndarray, draws: int = DRAWS) -> tuple[float, float]:
    """95 % interval of the mean of `values` (n,) if whole groups (n,) were drawn again."""
    _, codes = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(codes, values), np.bincount(codes)
    rng, means = np.random.default_rng(0), np.empty(draws)
    for draw in range(draws):
        drawn = rng.integers(len(sums), size=len(sums))
        means[draw] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def require_trained(run: runs.Run, recipe: Recipe) -> None:
    """Raise a UserError if a run is not finished, or is of another recipe."""
    if not run.weights.exists():
        what = "its training is not finished" if run.state.exists() else "it is not trained"
        raise UserError(f"{run.folder}: {what}; run `make train FOLD={run.folder.name.removeprefix('fold')}`")
    if differences := checkpoint.read_origin(run.weights)[0].differences(recipe):
        raise UserError(
            f"{run.weights}: was trained by another recipe ({'; '.join(differences)}); train it again or go back"
        )


def read(folder: Path) -> Evaluation | None:
    """The evaluation in a folder of runs, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "evaluation.json"
    try:
        return Evaluation(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run `make evaluate` again") from None
