"""The stages from images to a submission: the file each one makes, the files it needs, and its script.

Stated once, for the Makefile (`scripts/rules.py` prints them as rules) and for the Kaggle kernel, which runs them in
order. Standard library only: the Makefile uses it before anything is installed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.errors import UserError
from pipeline.toml import base_name, read_toml, read_toml_with_base

MAX_RECIPES = 4
"""Recipes in one ensemble: each more doubles the ensemble weights to try and gains less than the one before."""


@dataclass(frozen=True)
class Stage:
    """One step of the chain."""

    script: str
    """``scripts.<script>`` runs it."""
    target: Path
    """The file it writes last; it is finished when this exists and is newer than what it needs."""
    needs: tuple[Path, ...]
    options: tuple[str, ...]
    """Command-line options beyond competition, data and overrides."""


def split_recipe_names(text: str) -> list[str]:
    """Split the name of an ensemble, ``cpu+baseline``, into the names of its recipes.

    Raises:
        UserError: a name is empty or repeated, or there are more than `MAX_RECIPES`.
    """
    names = text.split("+")
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"recipe '{text}'", "needs different names joined by +", "write for example cpu+baseline")
    if len(names) > MAX_RECIPES:
        raise UserError(f"recipe '{text}'", f"joins {len(names)} recipes", f"use at most {MAX_RECIPES}")
    return names


def competition_files(competition: str) -> list[Path]:
    """Return the TOML file of a competition, and that of the competition it is based on, if any."""
    path = paths.competition_toml(competition)
    base = base_name(read_toml(path), path)
    return [path] if base is None else [path, paths.competition_toml(base)]


def fold_numbers(competition: str) -> list[int]:
    """Return the folds of a competition, 0 to ``folds - 1`` of its TOML file."""
    path = paths.competition_toml(competition)
    folds = read_toml_with_base(path).get("folds")
    if not isinstance(folds, int):
        raise UserError(path, "folds is missing", "set it to a number such as 5")
    return list(range(folds))


def corrections_csv(competition: str) -> Path | None:
    """Return the list of faulty masks that the TOML file of a competition names, if it names one."""
    path = paths.competition_toml(competition)
    masks = read_toml_with_base(path).get("masks")
    name = masks.get("corrections") if isinstance(masks, dict) else None
    return path.parent / name if isinstance(name, str) else None


def folds_stage(competition: str) -> Stage:
    """Return the stage that splits the training images."""
    return Stage("folds", paths.folds_csv(competition), tuple(competition_files(competition)), ())


def train_stage(competition: str, recipe: str, fold: paths.Fold) -> Stage:
    """Return the stage that trains one fold of one recipe."""
    return Stage(
        "train",
        paths.fold_run(paths.runs_folder(competition, recipe), fold).weights,
        (paths.recipe_toml(recipe), paths.folds_csv(competition)),
        ("--recipe", recipe, "--fold", str(fold)),
    )


def result_stages(competition: str, recipe: str, folds: Sequence[int]) -> list[Stage]:
    """Return the stages after training, in order: evaluate, predict.

    Args:
        competition: its name.
        recipe: a name, or several joined by ``+``.
        folds: the folds to evaluate and predict with.
    """
    runs = paths.runs_folder(competition, recipe)
    options = ("--recipe", recipe)
    weights = tuple(
        train_stage(competition, name, fold).target for name in split_recipe_names(recipe) for fold in folds
    )
    evaluation = Stage("evaluate", paths.evaluation_json(runs), weights, options)
    submission = Stage("predict", paths.submission_csv(competition, recipe), (evaluation.target,), options)
    return [evaluation, submission]


def describe_up_to_date(targets: Sequence[Path], started: float) -> str:
    """Describe why nothing was done for the finished files of stages, one per line.

    Args:
        targets: the files of the stages that were asked for. One that is missing or was written since is left out:
            its stage has said what it did.
        started: when make started, in seconds since the epoch.
    """
    lines = []
    for target in targets:
        if target.exists() and (written := target.stat().st_mtime) < started:
            day = time.strftime("%Y-%m-%d %H:%M", time.localtime(written))
            reason = f"what it is made from has not changed since {day}"
            lines.append(f"{target} is up to date: {reason}; to make it again, delete it")
    return "\n".join(lines)
