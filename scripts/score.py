"""Score a submission where the ground truth is known."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, run


def main(
    file: Annotated[Path, typer.Argument(help="A .csv or .csv.gz file.")],
    competition: CompetitionOption,
    data: DataOption = "",
    solution: Annotated[Path | None, typer.Option(help="The ground truth; csv.solution by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the score of every image to this CSV.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of worst images to print.")] = 10,
) -> None:
    """Print the worst images and the mean score."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data
    from pipeline.submission.score import (
        describe_scores,
        save_scores,
        score_submission,
        score_submitted_volumes,
        solution_csv,
    )
    from pipeline.submission.shapes import solution_shapes

    chosen, folder = load_competition(competition), parse_data(data, competition)
    truth = solution or solution_csv(chosen, folder)
    scores = score_submission(file, truth, chosen, solution_shapes(chosen, folder, truth))
    if out:
        save_scores(scores, chosen, folder, out)
    print(describe_scores(scores, chosen, file, worst))
    if chosen.metric == "dice_hausdorff":
        print(score_submitted_volumes(file, truth, chosen, folder).describe())


if __name__ == "__main__":
    run(main)
