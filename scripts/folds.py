"""Split the training images into folds: whole groups, alike in mask area."""

from pathlib import Path

from scripts.common import CompetitionName, DataFolder, run


def main(competition: CompetitionName, data: DataFolder, out: Path | None = None) -> None:
    """Write folds/<competition>.csv."""
    from pipeline import competition as competitions
    from pipeline.data import areas, folds

    chosen = competitions.load(competition)
    samples = competitions.training_samples(chosen, data)
    table = folds.make(samples, areas.measure(samples, chosen), chosen.folds, chosen.fold_seed)
    path = out or Path("folds") / f"{competition}.csv"
    folds.save(table, path)
    print(table.groupby("fold").agg(images=("id", "size"), groups=("group", "nunique"), mask_area=("area", "mean")))
    print(f"\n{path}")


if __name__ == "__main__":
    run(main)
