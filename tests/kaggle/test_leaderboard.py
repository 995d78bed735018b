"""Ranks on a leaderboard, and the text that shows them."""

import pytest

from pipeline.competition import Competition
from pipeline.kaggle.client import KaggleClient, KaggleSubmission, LeaderboardRow
from pipeline.kaggle.leaderboard import best_submission, describe_leaderboard, leaderboard_rank
from tests.kaggle.helpers import make_submission

HIGHER_IS_BETTER = ["0.9", "0.8", "0.7"]
LOWER_IS_BETTER = ["0.1", "0.2", "0.3"]


@pytest.mark.parametrize(
    ("scores", "score", "rank"),
    [
        (HIGHER_IS_BETTER, 0.95, 1),
        (HIGHER_IS_BETTER, 0.9, 1),
        (HIGHER_IS_BETTER, 0.8, 2),
        (HIGHER_IS_BETTER, 0.1, 4),
        (LOWER_IS_BETTER, 0.15, 2),
        (LOWER_IS_BETTER, 0.2, 2),
        (["0.9", "", "0.7"], 0.8, 2),
        (["0.9"], 0.8, 2),
        (["0.9", "0.9"], 0.8, 3),
        ([], 0.5, 1),
    ],
)
def test_the_rank_counts_better_scores(scores: list[str], score: float, rank: int) -> None:
    assert leaderboard_rank(scores, score) == rank


@pytest.mark.parametrize(("scores", "best"), [(HIGHER_IS_BETTER, "2"), (LOWER_IS_BETTER, "3")])
def test_the_order_of_the_leaderboard_tells_which_submission_is_best(scores: list[str], best: str) -> None:
    submissions = [
        make_submission("4", private="0.99", status="PENDING"),
        make_submission("3", public="0.95", private="0.15"),
        make_submission("2", public="0.15", private="0.85"),
        make_submission("1", public="", private=""),
    ]
    found = best_submission(submissions, scores)
    assert found
    assert found[0].ref == best


def test_without_private_scores_the_public_score_counts() -> None:
    found = best_submission([make_submission("1", public="0.85", private="")], HIGHER_IS_BETTER)
    assert found
    assert found[1] == 0.85


def test_the_newest_of_equal_submissions_is_best() -> None:
    found = best_submission([make_submission("2"), make_submission("1")], HIGHER_IS_BETTER)
    assert found
    assert found[0].ref == "2"


@pytest.mark.parametrize(
    ("submissions", "last"),
    [
        ([], "3 teams; none of your submissions has a score"),
        (
            [make_submission("7", message="flips")],
            "3 teams; your best submission 7 (flips) with 0.80000 has rank 2",
        ),
    ],
)
def test_the_leaderboard_shows_the_best_teams_and_the_own_rank(
    tiny: Competition, monkeypatch: pytest.MonkeyPatch, submissions: list[KaggleSubmission], last: str
) -> None:
    rows = [LeaderboardRow(f"Team {score}", score) for score in HIGHER_IS_BETTER]
    monkeypatch.setattr(KaggleClient, "leaderboard", lambda _: rows)
    monkeypatch.setattr(KaggleClient, "list_submissions", lambda _: submissions)
    lines = describe_leaderboard(tiny, top=2).splitlines()
    assert [line.split(maxsplit=2) for line in lines[:2]] == [["1", "0.9", "Team 0.9"], ["2", "0.8", "Team 0.8"]]
    assert lines[2:] == [last]
