"""The overrides of a recipe, ``SET`` and ``SEED``, that the stages after a training use again.

``runs/<competition>-<recipe>/.options`` holds those of the last training that make has started. A stage without
``--set`` and ``--seed`` uses them; an empty value resets them.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import UserError, read_fix
from pipeline.files import write_text
from pipeline.options import parse_overrides
from pipeline.paths import overrides_json, pseudo_csv, recipe_toml
from pipeline.recipe import Recipe, load_recipe
from pipeline.stages import split_recipe_names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Overrides:
    """Text of ``--set`` and ``--seed``; None for an option that is not given."""

    set: str | None = None
    seed: str | None = None

    def completed(self, last: "Overrides") -> "Overrides":
        """Return these overrides, with those of the last training in place of options that are not given."""
        return Overrides(last.set if self.set is None else self.set, last.seed if self.seed is None else self.seed)

    def assignments(self) -> list[str]:
        """Return ``table.key=value`` assignments, the seed last."""
        return parse_overrides([self.set or ""], self.seed or "")

    def __str__(self) -> str:
        texts = {"SET": self.set, "SEED": self.seed}
        return " ".join(f"{name}='{text}'" for name, text in texts.items() if text)


def given_overrides(texts: Sequence[str] | None, seed: str | None) -> Overrides:
    """Return the overrides of a command line, on which ``--set`` may occur several times."""
    return Overrides(" ".join(texts) if texts else None, seed)


def command_options(texts: Sequence[str] | None, seed: str | None) -> list[str]:
    """Return the options of a command line that give the same overrides."""
    options = [] if texts is None else ["--set", " ".join(texts)]
    return options if seed is None else [*options, "--seed", seed]


def load_run_recipe(name: str, runs: Path, given: Overrides) -> tuple[Recipe, Overrides]:
    """Read a recipe with the overrides given, completed by those of the last training in a runs folder.

    Returns:
        The recipe, and the overrides that were applied.

    Raises:
        UserError: see `pipeline.recipe.load_recipe` and `read_overrides`.
    """
    last = read_overrides(runs)
    overrides = given.completed(last)
    recipe = load_recipe(name, overrides.assignments())
    used = Overrides(last.set if given.set is None else None, last.seed if given.seed is None else None)
    if str(used):
        log.info("%s: uses %s, as its last training did; SET= and SEED= reset them", runs, used)
    return recipe, overrides


def load_run_recipes(names: str, runs: Sequence[Path], given: Overrides) -> list[Recipe]:
    """Read the recipes of an ensemble, ``cpu+baseline``, each with its own runs folder; see `load_run_recipe`.

    Raises:
        UserError: see `load_run_recipe` and `pipeline.stages.split_recipe_names`.
    """
    pairs = zip(split_recipe_names(names), runs, strict=True)
    return [load_run_recipe(name, folder, given)[0] for name, folder in pairs]


def read_overrides(runs: Path) -> Overrides:
    """Read the overrides of the last training in a runs folder; empty ones if there was none.

    Raises:
        UserError: the file cannot be read.
    """
    path = overrides_json(runs)
    try:
        return Overrides(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Overrides("", "")
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", read_fix(error)) from None
    except (ValueError, TypeError):
        raise UserError(path, "does not hold the options of a training", "delete it") from None


def save_overrides(runs: Path, overrides: Overrides) -> None:
    """Write the overrides of a training. A file that holds them already stays as it is, for make."""
    path = overrides_json(runs)
    if not path.exists() or read_overrides(runs) != overrides:
        write_text(path, json.dumps(asdict(overrides)) + "\n")


def touch_overrides(runs: Path, competition: str, recipe: Recipe) -> None:
    """Make the file of the overrides newer than the recipe's file and the pseudo-labels it trains on, for make."""
    sources = [recipe_toml(recipe.name)]
    if recipe.train.pseudo:
        sources += Path().glob(str(pseudo_csv(competition, recipe.train.pseudo, "*")))
    path = overrides_json(runs)
    if path.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        path.touch()
