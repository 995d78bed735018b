"""Show the top of a leaderboard and the rank of the account's best submission."""

from collections.abc import Sequence

from pipeline.competition import Competition
from pipeline.kaggle.client import KaggleClient, KaggleSubmission, RetryPolicy, require_slug


def leaderboard_rank(scores: Sequence[str], score: float) -> int:
    """Return the rank, from 1, that a score would have on a leaderboard. Equal scores share the best rank.

    Args:
        scores: the leaderboard's scores as text, best first; text that is not a number is skipped.
        score: the score to rank.
    """
    values = [value for text in scores if (value := _parse_score(text)) is not None]
    # The order of the leaderboard tells whether a higher or a lower score is better.
    higher_is_better = not values or values[0] >= values[-1]
    return 1 + sum(value > score if higher_is_better else value < score for value in values)


def best_submission(
    submissions: Sequence[KaggleSubmission], scores: Sequence[str]
) -> tuple[KaggleSubmission, float] | None:
    """Return the scored submission with the best rank, and its score; None if no submission has a score.

    Args:
        submissions: the account's submissions, newest first. The private score is used, or, while the competition
            runs and the leaderboard is public, the public one. The newest of equals wins.
        scores: the leaderboard's scores as text, best first.
    """
    scored = [
        (submission, score)
        for submission in submissions
        if submission.status == "COMPLETE"
        and (score := _parse_score(submission.private or submission.public)) is not None
    ]
    return min(scored, key=lambda pair: leaderboard_rank(scores, pair[1]), default=None)


def describe_leaderboard(competition: Competition, top: int, retry: RetryPolicy | None = None) -> str:
    """Return the best teams, one per line, and the rank of the account's best submission.

    Args:
        competition: which leaderboard.
        top: number of teams to show.
        retry: time limits and attempts of the client.

    Raises:
        UserError: the competition has no slug, or the client fails.
    """
    client = KaggleClient(require_slug(competition), retry)
    rows = client.leaderboard()
    scores = [row.score for row in rows]
    lines = [f"{rank:5}  {row.score:10}  {row.team}" for rank, row in enumerate(rows[:top], 1)]
    best = best_submission(client.list_submissions(), scores)
    if best is None:
        return "\n".join([*lines, f"{len(rows):,} teams; none of your submissions has a score"])
    submission, score = best
    last = (
        f"{len(rows):,} teams; your best submission {submission.ref} ({submission.message}) with {score:.5f} "
        f"has rank {leaderboard_rank(scores, score):,}"
    )
    return "\n".join([*lines, last])


def _parse_score(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
