"""Split the training images into folds: whole groups, with similar mask areas."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, run


def main(
    competition: CompetitionOption,
    data: DataOption = "",
    out: Annotated[Path | None, typer.Option(help="The table to write; folds/<competition>.csv by default.")] = None,
) -> None:
    """Write folds/<competition>.csv and print the size of each fold."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.data.folds import describe_folds, make_folds, save_folds
    from pipeline.data.mask_areas import measure_mask_areas
    from pipeline.data.samples import load_training_samples
    from pipeline.options import parse_data

    chosen = load_competition(competition)
    samples = load_training_samples(chosen, parse_data(data, competition))
    table = make_folds(samples, measure_mask_areas(samples, chosen), chosen.folds, chosen.fold_seed)
    path = out or paths.folds_csv(competition)
    save_folds(table, path)
    print(f"{describe_folds(table)}\n\n{path}")


if __name__ == "__main__":
    run(main, results=True)
