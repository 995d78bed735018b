"""Check a submission before it is uploaded."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, run


def main(
    file: Annotated[Path, typer.Argument(help="A .csv or .csv.gz file.")],
    competition: CompetitionOption,
    data: DataOption = "",
    sample: Annotated[
        Path | None, typer.Option(help="A CSV with the expected ids; the competition's sample by default.")
    ] = None,
) -> None:
    """Print every problem with its line; exit code 1 if there is one."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data
    from pipeline.submission.check import check_submission, reference_ratios
    from pipeline.submission.shapes import expected_shapes

    chosen = load_competition(competition)
    folder = parse_data(data, competition)
    shapes = expected_shapes(chosen, folder, sample)
    report = check_submission(file, chosen, shapes, reference_ratios(chosen, folder))
    print(report.describe())
    report.raise_if_bad()


if __name__ == "__main__":
    run(main)
