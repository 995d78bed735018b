"""Write the page of two evaluated recipes: which images got better or worse."""

from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, run


def main(
    recipes: Annotated[str, typer.Argument(help="Two recipes that are evaluated: 'baseline best'.")],
    competition: CompetitionOption,
    data: DataOption = "",
) -> None:
    """Write reports/<competition>-<a>-vs-<b>/index.html and print its path."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data
    from pipeline.report.recipes_page import write_recipe_comparison

    chosen = load_competition(competition)
    chosen.require_whole_images("make compare")
    print(write_recipe_comparison(chosen, parse_data(data, competition), recipes.split()))


if __name__ == "__main__":
    run(main)
