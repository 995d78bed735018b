"""Causes of failures and their messages."""

import pickle
from typing import get_args

import pytest

from pipeline.kaggle.errors import Cause, KaggleError, classify_output, kaggle_error, last_line


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("401 Client Error: Unauthorized for url: x", "credentials"),
        ("Authentication required to call the Kaggle API.", "credentials"),
        ("403 You must accept this competition's rules before you'll be able to download files.", "rules"),
        ("403 Permission 'competitions.participate' was denied", "forbidden"),
        ("404 Client Error: Not Found for url: x", "missing"),
        ("400 Submission not allowed:  Your team has used its daily Submission allowance (5) today, …", "limit"),
        ("400 Competition is not accepting submissions", "closed"),
        ("400 The competition deadline has passed", "closed"),
        ("429 Client Error: Too Many Requests for url: x", "busy"),
        ("502 Server Error: Bad Gateway for url: x", "server"),
        ("requests.exceptions.ProxyError: HTTPConnectionPool(…): Max retries exceeded", "network"),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "network"),
        ("OSError: [Errno 28] No space left on device", "disk"),
        ("400 Client Error: Bad Request for url: x", "refused"),
        ("", "refused"),
        ("some words first\n403 Client Error: Forbidden for url: x", "forbidden"),
        ("file 4031 of 500", "refused"),
    ],
)
def test_output_is_classified_by_its_words_then_by_its_status(text: str, cause: str) -> None:
    assert classify_output(text) == cause


def test_every_cause_has_its_own_message(home: object) -> None:
    errors = [kaggle_error(cause, "tiny-cars", "bad request", 5) for cause in get_args(Cause)]
    assert len({error.what for error in errors}) == len(errors)
    for error in errors:
        assert error.what
        assert error.fix or error.cause == "closed"
        assert "http" not in str(error)
        assert "{" not in str(error)


def test_messages_name_the_competition_the_limit_and_the_reason() -> None:
    assert kaggle_error("network", "tiny-cars").where == "tiny-cars"
    assert "`kaggle competitions files tiny-cars`" in kaggle_error("missing", "tiny-cars").fix
    assert "did not finish within 3 s" in kaggle_error("time", seconds=3.2).what
    assert "no data for 120 s" in kaggle_error("stalled", seconds=120).what
    assert kaggle_error("refused", text="Traceback\nValueError: {odd}\n").what == (
        "the Kaggle client failed: ValueError: {odd}"
    )
    assert kaggle_error("refused").what.endswith("it printed no reason")


@pytest.mark.parametrize("cause", get_args(Cause))
def test_only_temporary_failures_are_retryable(cause: Cause) -> None:
    temporary = cause in ("busy", "server", "network", "time", "stalled")
    assert kaggle_error(cause, "tiny-cars").retryable == temporary


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(KaggleError("limit", "is used up", "wait", "tiny-cars")))
    assert (error.cause, error.where, error.what, error.fix) == ("limit", "tiny-cars", "is used up", "wait")
    assert str(error) == "tiny-cars: is used up; wait"


def test_another_fix_leaves_the_rest_of_an_error() -> None:
    error = KaggleError("server", "failed", "wait", "tiny-cars").with_fix("do something else")
    assert (error.cause, str(error)) == ("server", "tiny-cars: failed; do something else")


def test_the_last_line_is_the_exception_of_a_traceback() -> None:
    assert last_line("Traceback\n  File x\nKeyError: 'a'\n\n  ") == "KeyError: 'a'"
    assert last_line("\n ") == ""
    assert len(last_line("x" * 1000)) == 300
