"""Say what came out: the figures, where everything lies, and how to do the same on the competition."""

from pathlib import Path

from scripts.common import CompetitionName, DataFolder, RecipeName, run


def main(competition: CompetitionName, recipe: RecipeName, data: DataFolder) -> None:
    """Print the end of the demonstration."""
    from pipeline import competition as competitions
    from pipeline import evaluation, runs
    from pipeline.submission import table
    from pipeline.submission.score import score

    chosen = competitions.load(competition)
    name = runs.name(competition, recipe)
    submission = Path("submissions") / f"{name}.csv.gz"
    result = evaluation.read(runs.FOLDER / name)
    scores = score(submission, data / "solution.csv", chosen, table.expected(chosen, data))
    print()
    if result:
        low, high = result.interval
        print(f"  out-of-fold Dice   {result.dice:.5f}   95 % interval {low:.5f} to {high:.5f}, {result.groups} cars")
    print(f"  test Dice          {scores.mean():.5f}   {len(scores)} images of cars never trained on")
    print()
    print(f"  data               {data}/")
    print(f"  folds              folds/{competition}.csv")
    print(f"  runs               {runs.FOLDER / name}/   (metrics, samples; tensorboard --logdir {runs.FOLDER / name})")
    print(f"  submission         {submission}")
    print(f"  overlays           overlays/{name}/")
    print()
    print("The same on the competition:")
    print("  make download                 # needs a Kaggle account that has accepted the rules")
    print("  make check folds train-all    # COMPETITION=carvana RECIPE=baseline are the defaults")
    print("  make submit MSG='first try'   # evaluates, predicts, checks, uploads, waits for the score")


if __name__ == "__main__":
    run(main)
