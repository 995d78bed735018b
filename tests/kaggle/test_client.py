"""The official client against the stand-in: answers, causes of failures, retries."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.kaggle import client as client_module
from pipeline.kaggle.client import KaggleClient, LeaderboardRow, RetryPolicy, account_name, require_slug
from pipeline.kaggle.errors import KaggleError, kaggle_error
from pipeline.kaggle.process import ClientOutput
from tests.helpers import changed_competition
from tests.kaggle.helpers import FAST_RETRY, SLUG
from tests.standin.server import StandinServer

pytestmark = pytest.mark.slow


def test_lists_files_of_several_pages(client: KaggleClient, standin: StandinServer) -> None:
    standin.backend.page_size = 4
    files = client.list_files()
    assert files == {name: path.stat().st_size for name, path in standin.backend.files.items()}
    assert len(files) > 4
    assert standin.calls.count("ListDataFiles") == 2


def test_an_account_without_submissions_has_an_empty_list(client: KaggleClient) -> None:
    assert client.list_submissions() == []


def test_reads_leaderboard_and_submission_limits(client: KaggleClient) -> None:
    assert client.leaderboard() == [
        LeaderboardRow("Team Seed", "0.99000"),
        LeaderboardRow("Team Threshold", "0.90000"),
        LeaderboardRow("Team Placeholder", "0.10000"),
    ]
    assert client.submission_limits() == (0, 5)


def test_signs_in_with_a_token(client: KaggleClient, standin: StandinServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.setenv("KAGGLE_API_TOKEN", standin.backend.accounts[0].token)
    assert client.list_files()


def test_the_client_tells_the_name_of_the_account(standin: StandinServer) -> None:
    assert account_name(FAST_RETRY) == "ada"


def test_an_account_without_credentials_has_no_name(home: Path) -> None:
    with pytest.raises(KaggleError) as caught:
        account_name(FAST_RETRY)
    assert caught.value.cause in ("credentials", "network")


def test_competitions_without_slug_are_not_on_kaggle(tiny: Competition) -> None:
    assert require_slug(tiny) == SLUG
    with pytest.raises(UserError, match=r"competitions/tiny\.toml: has no slug; add it"):
        require_slug(changed_competition(tiny, slug=None))


# ---- failures


@pytest.mark.parametrize(
    ("kind", "cause", "message"),
    [
        ("401", "credentials", "^KAGGLE_KEY: Kaggle does not accept these credentials; create a new API token"),
        ("403", "forbidden", "^tiny-cars: Kaggle denies .* access .*; .* join it and accept its rules"),
        ("429", "busy", "^tiny-cars: .* too many requests; wait some minutes"),
        ("500", "server", "^tiny-cars: .* error on its own side; run the same command again"),
        ("404", "missing", "^tiny-cars: .* no such file or page"),
        ("no_answer", "network", "^tiny-cars: Kaggle cannot be reached; check the network"),
    ],
)
def test_a_failed_call_has_cause_and_message(
    client: KaggleClient, standin: StandinServer, kind: str, cause: str, message: str
) -> None:
    standin.faults.add("ListDataFiles", kind, times=None)
    with pytest.raises(KaggleError, match=message) as caught:
        client.list_files()
    assert caught.value.cause == cause


def test_rules_must_be_accepted(client: KaggleClient, standin: StandinServer) -> None:
    standin.backend.accounts[0].accepted_rules = False
    with pytest.raises(KaggleError, match="tiny-cars: the rules of this competition are not accepted"):
        client.list_files()
    # A bare 403 does not name the rules.
    standin.faults.add("ListDataFiles", "403")
    with pytest.raises(KaggleError, match="tiny-cars: the rules of this competition are not accepted"):
        client.list_files()


def test_an_unknown_slug_is_recognized(standin: StandinServer) -> None:
    with pytest.raises(KaggleError, match="tiny-carz: Kaggle has no competition of this name; set slug"):
        KaggleClient("tiny-carz", FAST_RETRY).list_files()


def test_missing_credentials_are_recognized(client: KaggleClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(KaggleError, match=r"^~/\.kaggle/access_token: there are no Kaggle credentials; .*chmod 600"):
        client.list_files()


def test_a_missing_network_is_recognized(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    with pytest.raises(KaggleError, match="cannot be reached"):
        KaggleClient(SLUG, FAST_RETRY).list_files()


# ---- retries


def test_temporary_failures_are_retried(standin: StandinServer) -> None:
    standin.faults.add("ListDataFiles", "500")
    assert KaggleClient(SLUG, RetryPolicy(max_attempts=2, backoff_s=0.01)).list_files()


def test_the_time_limit_grows_with_the_file() -> None:
    retry = RetryPolicy(base_timeout_s=100, min_bytes_per_s=1e6)
    assert retry.timeout_s(0) == 100
    assert retry.timeout_s(300_000_000) == 400


def test_the_pause_doubles_with_each_failure() -> None:
    assert [RetryPolicy(backoff_s=3).pause_s(failures) for failures in (1, 2, 3)] == [3, 6, 12]


def test_attempts_are_limited() -> None:
    retry, temporary, final = RetryPolicy(max_attempts=3), kaggle_error("server"), kaggle_error("rules")
    assert [retry.may_retry(temporary, failures) for failures in (1, 2, 3)] == [True, True, False]
    assert not retry.may_retry(final, 1)


@pytest.mark.parametrize(("growing_calls", "calls"), [(0, 3), (1, 3), (2, 4)])
def test_a_download_is_retried_while_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, growing_calls: int, calls: int
) -> None:
    made = 0

    def fail(*_: object) -> str:
        nonlocal made
        made += 1
        (tmp_path / "train.zip").write_bytes(b"x" * min(made, growing_calls))
        raise kaggle_error("network", SLUG)

    client = KaggleClient(SLUG, RetryPolicy(max_attempts=3, backoff_s=0))
    monkeypatch.setattr(client, "_call", fail)
    with pytest.raises(KaggleError, match="cannot be reached"):
        client.download("train.zip", tmp_path, 10)
    # The last growing call is the first of the three attempts without progress.
    assert made == calls


@pytest.mark.parametrize("names", [[], ["other.zip"], ["train.zip", "other"]])
def test_a_download_without_its_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    for name in names:
        (tmp_path / name).touch()
    client = KaggleClient(SLUG, FAST_RETRY)
    monkeypatch.setattr(client, "_call", lambda *_: "")
    with pytest.raises(KaggleError, match=r"train\.zip: the Kaggle client did not download it"):
        client.download("train.zip", tmp_path, 10)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.zip"])
def test_kaggle_may_compress_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    client = KaggleClient(SLUG, FAST_RETRY)
    monkeypatch.setattr(client, "_call", lambda *_: "")
    (tmp_path / name).touch()
    (tmp_path / "a.csv.kaggle-partial").touch()
    assert client.download("folder/a.csv", tmp_path, 10) == tmp_path / name


# ---- answers of other versions of the client


SUBMISSION = """[{
    "ref": 7, "date": null, "fileName": null, "description": null, "publicScore": "0.5", "privateScore": null,
    "status": "SubmissionStatus.COMPLETE"
}]"""


def fake_answers(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[list[str]]:
    """Make the client print these texts, one per call; return the list of its command lines."""
    left, calls = list(answers), []

    def answer(arguments: Sequence[str], *_: object) -> ClientOutput:
        calls.append(list(arguments))
        return ClientOutput(0, left.pop(0), "")

    monkeypatch.setattr(client_module, "run_client", answer)
    return calls


def test_remarks_before_a_table_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_answers(
        monkeypatch,
        'Warning: a [new] version\nNext Page Token = abc=\n[{"name": "a.zip", "size": 3}]',
        '[{"name": "b.zip", "size": null}]',
    )
    assert KaggleClient(SLUG).list_files() == {"a.zip": 3, "b.zip": 0}
    assert "--page-token" not in calls[0]
    assert calls[1][-2:] == ["--page-token", "abc="]


def test_the_leaderboard_ends_after_the_last_wanted_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page = 'Next Page Token = more\n[{"teamName": "a", "score": "1"}]'
    calls = fake_answers(monkeypatch, page, page, page)
    assert len(KaggleClient(SLUG).leaderboard(max_pages=2)) == len(calls) == 2


def test_faulty_answers_ask_for_the_locked_client(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_answers(monkeypatch, "[{broken", SUBMISSION.replace("COMPLETE", "ODD"))
    with pytest.raises(KaggleError, match="printed no valid JSON; install the locked version"):
        KaggleClient(SLUG).list_files()
    with pytest.raises(KaggleError, match="unknown status 'ODD'; install the locked version"):
        KaggleClient(SLUG).list_submissions()


def test_submissions_are_read_with_missing_values(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_answers(monkeypatch, SUBMISSION)
    (submission,) = KaggleClient(SLUG).list_submissions()
    assert (submission.ref, submission.status, submission.public) == ("7", "COMPLETE", "0.5")
    assert submission.private == submission.date == submission.file == submission.message == submission.reason == ""


@pytest.mark.parametrize("answer", ["", "no limits", "{broken"])
def test_unknown_submission_limits_are_none(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    fake_answers(monkeypatch, answer)
    assert KaggleClient(SLUG).submission_limits() is None
