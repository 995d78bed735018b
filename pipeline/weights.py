"""Find the weights that a path, or a competition and a recipe, stand for."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.paths import (
    ALL,
    RECIPES,
    SHIPPED_WEIGHTS,
    Run,
    competition_toml,
    fold_run,
    parse_fold,
    runs_folder,
)
from pipeline.toml import base_name, read_toml


def find_weights(source: Path) -> list[Path]:
    """List the weights files that a path stands for.

    Args:
        source: a weights file, a run, or a runs folder.

    Returns:
        The file itself; the weights of the run; those of all folds in a runs folder, or, without any fold, those of
        the fold "all".

    Raises:
        UserError: there are none.
    """
    if source.is_file():
        return [source]
    if Run(source).weights.exists():
        return [Run(source).weights]
    # Runs that were set aside (fold0~1) belong to another recipe.
    folds = sorted(path.name.removeprefix("fold") for path in source.glob("fold*") if path.name[4:].isdigit())
    for names in (sorted(folds, key=int), [ALL]):
        found = [path for name in names if (path := fold_run(source, parse_fold(name)).weights).exists()]
        if found:
            return found
    raise UserError(source, "has no weights.safetensors", "train with `make train`, or name another run")


def default_weights(competition: str, recipe: str) -> Path:
    """Return the runs of a recipe if one is finished, else the weights shipped for the competition or its ``base``.

    Raises:
        UserError: there are neither; the message lists the trained recipes.
    """
    runs = runs_folder(competition, recipe)
    if _is_trained(runs):
        return runs
    toml = competition_toml(competition)
    for name in (competition, base_name(read_toml(toml), toml)):
        if name and (shipped := sorted(SHIPPED_WEIGHTS.glob(f"{name}-*.safetensors"))):
            return shipped[0]
    trained = sorted(path.stem for path in RECIPES.glob("*.toml") if _is_trained(runs_folder(competition, path.stem)))
    fix = f"set RECIPE to one of the trained recipes: {', '.join(trained)}" if trained else "train with `make train`"
    raise UserError(runs, "has no weights.safetensors", f"{fix}, or set MODEL to a weights file")


def _is_trained(runs: Path) -> bool:
    try:
        return bool(find_weights(runs))
    except UserError:
        return False
