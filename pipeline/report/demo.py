"""Describe the result of the demonstration."""

from pipeline import paths
from pipeline.competition import load_competition
from pipeline.evaluation.result import read_evaluation
from pipeline.submission.score import score_submission
from pipeline.submission.shapes import expected_shapes

DEMO = "demo"
"""Name of the demonstration's competition and recipe."""


def describe_demo() -> str:
    """Return the scores of the demonstration, where its files are, and the same commands for the competition."""
    competition, data = load_competition(DEMO), paths.data_folder(DEMO)
    runs, submission = paths.runs_folder(DEMO, DEMO), paths.submission_csv(DEMO, DEMO)
    evaluation = read_evaluation(runs)
    solution = data / str(competition.csv.solution)
    scores = score_submission(submission, solution, competition, expected_shapes(competition, data)).score
    lines = [""]
    if evaluation:
        dice = evaluation.score
        interval = f"95 % confidence interval {dice.low:.5f} to {dice.high:.5f} over {evaluation.groups} cars"
        lines.append(f"  out-of-fold Dice   {dice.value:.5f}   {interval}")
    return "\n".join([
        *lines,
        f"  test Dice          {scores.mean():.5f}   {len(scores)} images of unseen cars",
        "",
        f"  data               {data}/",
        f"  folds              {paths.folds_csv(DEMO)}",
        f"  runs               {runs}/   (metrics, samples; tensorboard --logdir {runs})",
        f"  submission         {submission}",
        f"  overlays           {paths.OVERLAYS / DEMO}/",
        f"  report             make report COMPETITION={DEMO} RECIPE={DEMO}",
        "",
        "The same on the competition:",
        "  make download                 # needs a Kaggle account that has accepted the rules",
        "  make check folds train-all    # COMPETITION=carvana RECIPE=baseline are the defaults",
        "  make submit MSG='first try'   # evaluates, predicts, checks, uploads, waits for the score",
    ])  # fmt: skip
