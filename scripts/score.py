"""Score a submission where the truth is known."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionName, DataFolder, run


def main(
    file: Annotated[Path, typer.Argument(help="A .csv or .csv.gz file.")],
    competition: CompetitionName,
    data: DataFolder,
    solution: Annotated[Path | None, typer.Option(help="The true masks; the competition's own if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Save every image's Dice there, as CSV.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst images to print.")] = 10,
) -> None:
    """Print the worst images and the mean Dice."""
    from pipeline.competition import load_competition
    from pipeline.data.samples import load_test_samples
    from pipeline.errors import UserError
    from pipeline.submission.check import expected_shapes
    from pipeline.submission.score import save_scores, score_submission

    chosen = load_competition(competition)
    if solution is None and chosen.csv.solution is None:
        raise UserError(f"competitions/{competition}.toml", "names no csv.solution", "give one with --solution")
    truth = solution or data / str(chosen.csv.solution)
    scores = score_submission(file, truth, chosen, expected_shapes(chosen, data, sample=truth))
    if out:
        save_scores(scores, load_test_samples(chosen, data), out)
    for id, dice in scores.nsmallest(worst).items():
        print(f"{dice:.6f}  {id}")
    print(f"{file}: Dice {scores.mean():.6f}, the mean of {len(scores):,} images")


if __name__ == "__main__":
    run(main)
