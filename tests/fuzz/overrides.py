"""``--set``: an overridden recipe or a UserError."""

import contextlib
from pathlib import Path

from pipeline.errors import UserError
from pipeline.options import parse_numbers, parse_overrides
from pipeline.recipe import read_recipe

RECIPE = Path("recipes/demo.toml")
SEEDS = [
    b"train.epochs=3 network.width=16",
    b"input.size=[64, 48] predict.flips=['none', 'horizontal']",
    b"train={epochs = 1} a.b.c=0x1F",
    b'name="x y" seed=1e9 x=2026-11-22',
]


def check(data: bytes) -> None:
    """Apply a text of assignments to a recipe."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(UserError):
        read_recipe(RECIPE, parse_overrides([text]))
    with contextlib.suppress(UserError):
        parse_numbers(text, "--weights")
