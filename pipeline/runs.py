"""The folder of a run, one training of one fold, and the files in it.

runs/carvana-baseline/            fold0/ fold1/ … all/ (nothing held out), evaluation.json, oof.csv, worst.jpg
runs/carvana-baseline/fold0/      recipe.toml split.txt metrics.jsonl samples/ events… state.pt → weights.safetensors
runs/carvana-cpu+baseline/        evaluation.json, oof.csv of the two recipes' mean; each has its own runs
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import write_text

FOLDER = Path("runs")


def name(competition: str, recipe: str) -> str:
    """What a competition and a recipe are called together; once, if both have the same name."""
    return recipe if competition == recipe else f"{competition}-{recipe}"


def folders(competition: str, recipes: Sequence[str], given: Path | None = None) -> list[Path]:
    """Where the runs of each recipe are: in a folder that is given for a single one, else where `make train` puts them.

    Raises:
        UserError: one folder is given for several recipes.
    """
    if given is None:
        return [FOLDER / name(competition, recipe) for recipe in recipes]
    if len(recipes) > 1:
        raise UserError(f"{given}: is one folder, and the recipes {'+'.join(recipes)} have one each; name none")
    return [given]


@dataclass(frozen=True)
class Run:
    """One training of one fold."""

    folder: Path

    @property
    def weights(self) -> Path:
        """The finished weights: they exist once the training is done."""
        return self.folder / "weights.safetensors"

    @property
    def state(self) -> Path:
        """What an unfinished training goes on from."""
        return self.folder / "state.pt"

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.folder / "recipe.toml"

    @property
    def split(self) -> Path:
        """Fingerprints of the images trained on and held out."""
        return self.folder / "split.txt"

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Predictions as pictures, one file per validation."""
        return self.folder / "samples"

    def set_aside(self) -> Path:
        """Rename the folder to the first free `fold0~1`, `fold0~2`, …: results of hours are never overwritten."""
        number = 1
        while (target := self.folder.with_name(f"{self.folder.name}~{number}")).exists():
            number += 1
        return self.folder.rename(target)


def of_fold(folder: Path, fold: int | None) -> Run:
    """The run of a fold below the folder of a competition and recipe; of a training on all images if None."""
    return Run(folder / ("all" if fold is None else f"fold{fold}"))


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
