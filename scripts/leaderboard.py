"""Show the leaderboard and the rank of your best submission."""

from typing import Annotated

import typer

from scripts.common import CompetitionOption, run


def main(
    competition: CompetitionOption,
    top: Annotated[int, typer.Option(min=0, help="Number of teams to print.")] = 10,
) -> None:
    """Print the best teams and the rank that your best submission has or would have."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.leaderboard import describe_leaderboard

    print(describe_leaderboard(load_competition(competition), top))


if __name__ == "__main__":
    run(main)
