"""Label images without masks by the network of one fold, for a recipe with train.pseudo."""

from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, RecipeOption, RunsOption, run


def main(
    competition: CompetitionOption,
    recipe: RecipeOption,
    data: DataOption = "",
    fold: Annotated[str, typer.Option(help="The fold whose network predicts, for this fold's training.")] = "0",
    images: Annotated[str, typer.Option(help="Images or a folder of them; the test images if empty.")] = "",
    keep: Annotated[float, typer.Option(min=0, max=1, help="Fraction of the images to keep, the surest ones.")] = 0.9,
    runs: RunsOption = None,
) -> None:
    """Write pseudo/<competition>-<recipe>/fold<N>.csv and print its path."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_paths
    from pipeline.overrides import Overrides, load_run_recipe

    chosen, number = load_competition(competition), paths.parse_fold(fold)
    chosen.require_whole_images("make pseudo")
    folder = runs or paths.runs_folder(competition, recipe)
    trained, _ = load_run_recipe(recipe, folder, Overrides(None, None))
    weights = paths.fold_run(folder, number).weights
    out = paths.pseudo_csv(competition, recipe, number)
    files = parse_paths([images]) if images else []

    from pipeline.inference.pseudo import write_pseudo_labels

    write_pseudo_labels(chosen, trained, parse_data(data, competition), weights, out, files, keep)
    print(out)


if __name__ == "__main__":
    run(main, results=True)
