"""Split the training images into folds: whole groups, alike in mask area."""

from pathlib import Path

from scripts.common import CompetitionName, DataFolder, run


def main(competition: CompetitionName, data: DataFolder, out: Path | None = None) -> None:
    """Write folds/<competition>.csv."""
    from pipeline.competition import load_competition
    from pipeline.data.folds import make_folds, save_folds
    from pipeline.data.masks import measure_mask_areas
    from pipeline.data.samples import load_training_samples

    chosen = load_competition(competition)
    samples = load_training_samples(chosen, data)
    table = make_folds(samples, measure_mask_areas(samples, chosen), chosen.folds, chosen.fold_seed)
    path = out or Path("folds") / f"{competition}.csv"
    save_folds(table, path)
    print(table.groupby("fold").agg(images=("id", "size"), groups=("group", "nunique"), mask_area=("area", "mean")))
    print(f"\n{path}")


if __name__ == "__main__":
    run(main)
