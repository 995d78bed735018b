"""Show a submission beside the truth: the worst images, or those named."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionName, DataFolder, run


def main(
    file: Annotated[Path, typer.Argument(help="A .csv or .csv.gz file.")],
    competition: CompetitionName,
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="The picture to write.")],
    image: Annotated[list[str], typer.Option(help="An id; may be given several times.")] = [],  # noqa: B006
    worst: Annotated[int, typer.Option(min=1, help="How many of the worst images, if none is named.")] = 8,
) -> None:
    """Write one picture: photo, mask over it, missed (yellow) and added (cyan), a row for each image."""
    from pipeline.competition import load_competition
    from pipeline.errors import UserError
    from pipeline.report.compare import write_comparison
    from pipeline.submission.check import expected_shapes
    from pipeline.submission.score import score_submission

    chosen = load_competition(competition)
    if chosen.csv.solution is None:
        raise UserError(f"competitions/{competition}.toml", "names no csv.solution to compare with")
    solution = data / chosen.csv.solution
    if not image:
        scores = score_submission(file, solution, chosen, expected_shapes(chosen, data, sample=solution))
        image = scores.nsmallest(worst).index.tolist()
    write_comparison(chosen, data, file, solution, image, out)
    print(out)


if __name__ == "__main__":
    run(main)
