"""Write folders for `kaggle kernels push`: training or inference on Kaggle's GPUs."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, EnsembleOption, FoldsOption, RunSeedOption, RunSetOption, run


def main(
    competition: CompetitionOption,
    recipe: EnsembleOption,
    user: Annotated[str, typer.Option(help="Your account on Kaggle; that of your credentials if empty.")] = "",
    folds: FoldsOption = "",
    out: Annotated[Path | None, typer.Option(help="kernels/<competition>-<recipe> by default.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; 675 for a training, 90 % of the limit for inference.")
    ] = None,
    predict: Annotated[bool, typer.Option("--predict", help="Write an inference kernel and its weights.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the output of the previous version.")] = False,
    dataset: Annotated[list[str], typer.Option(help="Attach a dataset, owner/name; may be repeated.")] = [],  # noqa: B006 - typer needs a list
    wheels: Annotated[str, typer.Option(help="With --predict: wheel files to upload with the weights.")] = "",
    overrides: RunSetOption = None,
    seed: RunSeedOption = None,
) -> None:
    """Write kernel-metadata.json and kernel.py, which contains the whole pipeline."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_folds, parse_paths
    from pipeline.overrides import given_overrides, load_run_recipes
    from pipeline.paths import inference_kernel_folder, kernel_folder, runs_folders, weights_dataset_folder

    chosen = load_competition(competition)
    recipes = load_run_recipes(recipe, runs_folders(competition, recipe), given_overrides(overrides, seed))
    numbers = parse_folds(folds, chosen.folds)

    from pipeline.kaggle.client import account_name
    from pipeline.kaggle.kernel.build import write_kernel
    from pipeline.kaggle.kernel.weights_dataset import write_weights_dataset

    account = user or account_name()
    folder = out or (inference_kernel_folder if predict else kernel_folder)(competition, recipe)
    steps = [f"kaggle kernels push -p {folder}"]
    if predict:
        packed = weights_dataset_folder(competition, recipe)
        address = write_weights_dataset(competition, recipe, numbers, packed, account, parse_paths([wheels]))
        dataset = [*dataset, address]
        steps.insert(0, f"kaggle datasets create -p {packed}   (later: kaggle datasets version -p {packed} -m update)")
    writer = partial(write_kernel, chosen, recipes, folder, account, folds=numbers, datasets=dataset)
    for path in writer(minutes=minutes, predict=predict, resume=resume):
        print(path)
    for step in steps:
        print(f"next: .venv/bin/{step}")


if __name__ == "__main__":
    run(main)
