"""Say what came out: the figures, where everything lies, and how to do the same on the competition."""

from pathlib import Path

from scripts.common import CompetitionName, DataFolder, RecipeName, run


def main(competition: CompetitionName, recipe: RecipeName, data: DataFolder) -> None:
    """Print the end of the demonstration."""
    from pipeline.competition import load_competition
    from pipeline.evaluation.result import read_evaluation
    from pipeline.paths import RUNS, run_name
    from pipeline.submission.check import expected_shapes
    from pipeline.submission.score import score_submission

    chosen = load_competition(competition)
    name = run_name(competition, recipe)
    submission = Path("submissions") / f"{name}.csv.gz"
    result = read_evaluation(RUNS / name)
    scores = score_submission(submission, data / "solution.csv", chosen, expected_shapes(chosen, data))
    print()
    if result:
        low, high = result.interval
        print(f"  out-of-fold Dice   {result.dice:.5f}   95 % interval {low:.5f} to {high:.5f}, {result.groups} cars")
    print(f"  test Dice          {scores.mean():.5f}   {len(scores)} images of cars never trained on")
    print()
    print(f"  data               {data}/")
    print(f"  folds              folds/{competition}.csv")
    print(f"  runs               {RUNS / name}/   (metrics, samples; tensorboard --logdir {RUNS / name})")
    print(f"  submission         {submission}")
    print(f"  overlays           overlays/{name}/")
    print()
    print("The same on the competition:")
    print("  make download                 # needs a Kaggle account that has accepted the rules")
    print("  make check folds train-all    # COMPETITION=carvana RECIPE=baseline are the defaults")
    print("  make submit MSG='first try'   # evaluates, predicts, checks, uploads, waits for the score")


if __name__ == "__main__":
    run(main)
