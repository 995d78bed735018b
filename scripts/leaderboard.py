"""Show where one stands."""

from typing import Annotated

import typer

from scripts.common import CompetitionName, run


def main(
    competition: CompetitionName,
    top: Annotated[int, typer.Option(min=0, help="How many of the best teams to print.")] = 10,
) -> None:
    """Print the top of the leaderboard, and the place of the account's best submission on it."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.client import KaggleClient
    from pipeline.kaggle.ledger import leaderboard_rank
    from pipeline.kaggle.upload import require_slug

    kaggle = KaggleClient(require_slug(load_competition(competition)))
    places = kaggle.leaderboard()
    for number, place in enumerate(places[:top], 1):
        print(f"{number:5}  {place.score:10}  {place.team}")
    scores = [place.score for place in places]
    scored = [submission for submission in kaggle.submissions() if submission.status == "COMPLETE"]
    # A finished competition shows the private board; while it runs there are public scores alone.
    mine = [(float(one.private or one.public), one) for one in scored if one.private or one.public]
    if not mine:
        print(f"{len(places):,} teams; no submission of yours has a score yet")
        return
    best, submission = max(mine, key=lambda pair: -leaderboard_rank(scores, pair[0]))
    print(
        f"{len(places):,} teams; your best, {submission.ref} ({submission.message}) with {best:.5f}, "
        f"would stand at {leaderboard_rank(scores, best):,}"
    )


if __name__ == "__main__":
    run(main)
