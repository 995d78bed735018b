"""Run a stage on a Ray cluster: train the folds, predict the test set in parts, or make a report."""

import sys
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, EnsembleOption, FoldsOption, RunSeedOption, RunSetOption, run

PARTS_PER_SLOT = 4


def main(
    stages: Annotated[str, typer.Argument(help="'train-all', 'predict' or 'report'.")],
    competition: CompetitionOption,
    recipe: EnsembleOption,
    data: DataOption = "",
    folds: FoldsOption = "",
    cluster: Annotated[str, typer.Option(help="'local', 'auto', or the address of the head.")] = "auto",
    overrides: RunSetOption = None,
    seed: RunSeedOption = None,
) -> None:
    """Run the tasks, retried where a process or a machine is lost; parts of a submission are joined here."""
    from pipeline.cluster import count_slots, parse_stage, run_on_cluster
    from pipeline.competition import load_competition
    from pipeline.options import parse_folds
    from pipeline.overrides import command_options
    from pipeline.stages import split_recipe_names, train_stage

    numbers, stage = parse_folds(folds, load_competition(competition).folds), parse_stage(stages)
    common = ["--competition", competition, "--data", data, *command_options(overrides, seed)]
    chosen = ["--recipe", recipe, "--folds", " ".join(map(str, numbers))]
    if stage == "train-all":
        trainings = [train_stage(competition, name, fold) for name in split_recipe_names(recipe) for fold in numbers]
        tasks = {str(one.target.parent): ["-m", "scripts.train", *common, *one.options] for one in trainings}
    elif stage == "predict":
        count = PARTS_PER_SLOT * count_slots(cluster)
        parts = [f"{number}/{count}" for number in range(1, count + 1)]
        tasks = {f"part {part}": ["-m", "scripts.predict", *common, *chosen, "--shard", part] for part in parts}
    else:
        tasks = {"report": ["-m", "scripts.report", *common[:4], "--recipe", recipe]}
    if failed := [code for code in run_on_cluster(tasks, cluster).values() if code]:
        sys.exit(failed[0])
    if stage == "predict":
        from scripts.merge import main as merge

        merge(competition, recipe, data, folds, overrides=overrides, seed=seed)


if __name__ == "__main__":
    run(main)
