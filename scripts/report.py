"""Write a page to look at: a run with charts and images."""

from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, EnsembleOption, run


def main(
    competition: CompetitionOption,
    recipe: EnsembleOption,
    data: DataOption = "",
    full: Annotated[bool, typer.Option("--full", help="Write thumbnails of all images beside the page.")] = False,
    price: Annotated[str, typer.Option(help="Price of one hour of the hardware, such as 2.5; for the cost.")] = "",
) -> None:
    """Write reports/<competition>-<recipe>/index.html and print its path."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_price
    from pipeline.report.run_page import write_run_report

    chosen = load_competition(competition)
    print(write_run_report(chosen, recipe, parse_data(data, competition), full=full, price=parse_price(price)))


if __name__ == "__main__":
    run(main)
