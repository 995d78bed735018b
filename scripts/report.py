"""Write a page to look at: a run with charts and images, a submission without ground truth, or two submissions."""

from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, EnsembleOption, run


def main(
    competition: CompetitionOption,
    recipe: EnsembleOption = "",
    data: DataOption = "",
    full: Annotated[bool, typer.Option("--full", help="Write thumbnails of all images beside the page.")] = False,
    price: Annotated[str, typer.Option(help="Price of one hour of the hardware, such as 2.5; for the cost.")] = "",
    submission: Annotated[str, typer.Option(help="A submission to look at instead of a run, or two.")] = "",
) -> None:
    """Write reports/<competition>-<recipe>/index.html or reports/submission-<name>/index.html and print its path."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_paths, parse_price

    chosen, folder = load_competition(competition), parse_data(data, competition)
    chosen.require_whole_images("make report")
    if submission:
        from pipeline.report.submission_report import write_submission_report

        print(write_submission_report(chosen, folder, parse_paths([submission])))
        return
    from pipeline.report.run_page import write_run_report

    print(write_run_report(chosen, recipe, folder, full=full, price=parse_price(price)))


if __name__ == "__main__":
    run(main)
