"""Draw a submission next to the ground truth: the worst images, or those with given ids."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, run


def main(
    file: Annotated[Path, typer.Argument(help="A .csv or .csv.gz file.")],
    competition: CompetitionOption,
    out: Annotated[Path, typer.Option(help="The .jpg or .png file to write.")],
    data: DataOption = "",
    image: Annotated[list[str], typer.Option(help="An id; may be repeated.")] = [],  # noqa: B006 - typer needs a list
    worst: Annotated[int, typer.Option(min=1, help="Number of worst images, if no id is given.")] = 8,
) -> None:
    """Write one row per image: the image, its mask over it, missed pixels (yellow) and added pixels (cyan)."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data
    from pipeline.submission.score import score_submission, solution_csv
    from pipeline.submission.shapes import expected_shapes

    chosen, folder = load_competition(competition), parse_data(data, competition)
    chosen.require_whole_images("scripts.compare")
    truth = solution_csv(chosen, folder)
    if not image:
        scores = score_submission(file, truth, chosen, expected_shapes(chosen, folder, sample=truth))
        image = scores.groupby("id").score.mean().nsmallest(worst).index.tolist()

    from pipeline.report.compare import write_comparison

    write_comparison(chosen, folder, file, truth, image, out)
    print(out)


if __name__ == "__main__":
    run(main)
