"""Write a folder for `kaggle kernels push`: the pipeline on Kaggle's GPUs."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, FoldsOption, RecipeOption, SeedOption, SetOption, run


def main(
    competition: CompetitionOption,
    recipe: RecipeOption,
    user: Annotated[str, typer.Option(help="Your account on Kaggle; that of your credentials if empty.")] = "",
    folds: FoldsOption = "",
    out: Annotated[Path | None, typer.Option(help="kernels/<competition>-<recipe> by default.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; 675 by default, Kaggle allows 720.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the output of the previous version.")] = False,
    dataset: Annotated[list[str], typer.Option(help="Attach a dataset, owner/name; may be repeated.")] = [],  # noqa: B006 - typer needs a list
    overrides: SetOption = [],  # noqa: B006 - typer needs a list
    seed: SeedOption = "",
) -> None:
    """Write kernel-metadata.json and kernel.py, which contains the whole pipeline."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.client import account_name
    from pipeline.kaggle.kernel.build import DEFAULT_MINUTES, write_kernel
    from pipeline.options import parse_folds, parse_overrides
    from pipeline.paths import kernel_folder
    from pipeline.recipe import load_recipe

    chosen, wanted = load_competition(competition), load_recipe(recipe, parse_overrides(overrides, seed))
    numbers, folder = parse_folds(folds, chosen.folds), out or kernel_folder(competition, recipe)
    files = write_kernel(
        chosen,
        wanted,
        folder,
        user or account_name(),
        folds=numbers,
        minutes=minutes or DEFAULT_MINUTES,
        resume=resume,
        datasets=dataset,
    )
    for path in files:
        print(path)
    print(f"next: .venv/bin/kaggle kernels push -p {folder}")


if __name__ == "__main__":
    run(main)
