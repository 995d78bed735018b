"""Competition and recipe files: a valid model or a UserError."""

import contextlib
from pathlib import Path

from pipeline.competition import load_competition
from pipeline.errors import UserError
from pipeline.recipe import parse_recipe, read_recipe, recipe_to_toml
from tests.fuzz.files import FOLDER, write

SEEDS = [path.read_bytes() for folder in ("competitions", "recipes") for path in sorted(Path(folder).glob("*.toml"))]


def check(data: bytes) -> None:
    """Read the file as a competition and as a recipe; a recipe is written and read again."""
    path = write("x.toml", data)
    with contextlib.suppress(UserError):
        load_competition("x", FOLDER)
    with contextlib.suppress(UserError):
        recipe = read_recipe(path)
        assert parse_recipe(recipe_to_toml(recipe), path) == recipe
