"""Write a folder for `kaggle kernels push`: the pipeline on Kaggle's own GPUs."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import Changes, CompetitionName, FoldList, RecipeName, fold_numbers, run


def main(
    competition: CompetitionName,
    recipe: RecipeName,
    user: Annotated[str, typer.Option(help="Your name on Kaggle; as the client knows it if not given.")] = "",
    fold: FoldList = "",
    out: Annotated[Path | None, typer.Option(help="kernels/<competition>-<recipe> if not given.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time; 675 of the 720 if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last version's output.")] = False,
    dataset: Annotated[list[str], typer.Option(help="owner/name of a dataset to attach too.")] = [],  # noqa: B006
    changes: Changes = [],  # noqa: B006 (typer wants a list)
) -> None:
    """Write kernel-metadata.json and one code file that holds everything."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.client import account_name
    from pipeline.kaggle.kernel.build import MINUTES, write_kernel
    from pipeline.paths import run_name
    from pipeline.recipe import load_recipe

    chosen, wanted = load_competition(competition), load_recipe(recipe, changes)
    folder = write_kernel(
        chosen,
        wanted,
        out or Path("kernels") / run_name(competition, recipe),
        user or account_name(),
        folds=fold_numbers(fold, chosen.folds),
        minutes=minutes or MINUTES,
        resume=resume,
        datasets=dataset,
    )
    print(folder / "kernel-metadata.json")
    print(folder / "kernel.py")
    print(f"next: .venv/bin/kaggle kernels push -p {folder}")


if __name__ == "__main__":
    run(main)
