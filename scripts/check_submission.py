"""Check a submission before it is uploaded."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionName, DataFolder, run


def main(
    file: Annotated[Path, typer.Argument(help="A .csv or .csv.gz file.")],
    competition: CompetitionName,
    data: DataFolder,
    sample: Annotated[
        Path | None, typer.Option(help="The CSV with the ids that are wanted; the competition's own if not given.")
    ] = None,
) -> None:
    """Print every problem with its line; exit code 1 if there is one."""
    from pipeline.competition import load_competition
    from pipeline.submission.check import check_submission, expected_shapes

    chosen = load_competition(competition)
    wanted = expected_shapes(chosen, data, sample)
    report = check_submission(file, chosen, list(wanted), wanted)
    for warning in report.warnings:
        print(f"warning  {warning}")
    for problem in report.problems:
        print(f"error    {problem}")
    print(f"{file}: {report.rows:,} rows, {report.count:,} errors, {len(report.warnings):,} warnings")
    report.raise_if_bad()


if __name__ == "__main__":
    run(main)
