"""The official client against the stand-in: answers, and one sentence for each way to fail."""

import logging
import os
from pathlib import Path

import pytest

from pipeline.kaggle.client import KaggleClient, RetryPolicy
from pipeline.kaggle.credentials import credential_sources, scrub, warn_if_readable
from pipeline.kaggle.errors import Cause, KaggleError, classify_output, kaggle_error
from tests.standin.server import Standin
from tests.standin.world import Account


def test_lists_files_over_several_pages(kaggle: KaggleClient, standin: Standin) -> None:
    standin.world.page = 4
    files = kaggle.files()
    assert files == {name: path.stat().st_size for name, path in standin.world.files.items()}
    assert len(files) > 4
    assert standin.calls.count("ListDataFiles") == 2


def test_lists_nothing_as_nothing(kaggle: KaggleClient) -> None:
    assert kaggle.submissions() == []


def test_leaderboard_and_allowance(kaggle: KaggleClient) -> None:
    assert [place.team for place in kaggle.leaderboard()] == ["Team Seed", "Team Threshold", "Team Placeholder"]
    assert kaggle.allowance() == (0, 5)


def test_signs_in_by_token(kaggle: KaggleClient, standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.setenv("KAGGLE_API_TOKEN", standin.world.accounts[0].token)
    assert kaggle.files()


@pytest.mark.parametrize(
    ("step", "kind", "cause", "words"),
    [
        ("ListDataFiles", "401", "credentials", "does not accept the credentials in KAGGLE_KEY"),
        ("ListDataFiles", "403", "forbidden", "join it and accept its rules"),
        ("ListDataFiles", "429", "busy", "wait some minutes"),
        ("ListDataFiles", "500", "server", "not your fault"),
        ("ListDataFiles", "404", "missing", "no such file or page in tiny-cars"),
        ("ListDataFiles", "break", "network", "check the network"),
    ],
)
def test_a_status_becomes_a_sentence(
    kaggle: KaggleClient, standin: Standin, step: str, kind: str, cause: str, words: str
) -> None:
    standin.faults.add(step, kind, times=None)
    with pytest.raises(KaggleError, match=words) as caught:
        kaggle.files()
    assert caught.value.cause == cause


def test_rules_not_accepted(kaggle: KaggleClient, standin: Standin) -> None:
    standin.world.accounts[0].joined = False
    with pytest.raises(KaggleError, match="the rules of tiny-cars are not accepted"):
        kaggle.files()
    # The server does not always say that it is about the rules.
    standin.faults.add("ListDataFiles", "403")
    with pytest.raises(KaggleError, match="the rules of tiny-cars are not accepted"):
        kaggle.files()


def test_misspelt_slug(standin: Standin) -> None:
    with pytest.raises(KaggleError, match="finds no competition tiny-carz; correct slug"):
        KaggleClient("tiny-carz", RetryPolicy(tries=1)).files()


def test_no_credentials(kaggle: KaggleClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(KaggleError, match=r"no Kaggle credentials were found; .* save it as ~/.kaggle/access_token"):
        kaggle.files()


def test_no_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    with pytest.raises(KaggleError, match="cannot be reached") as caught:
        KaggleClient("tiny-cars", RetryPolicy(tries=1)).files()
    assert caught.value.passing


def test_time_is_limited(standin: Standin) -> None:
    standin.faults.add("ListDataFiles", "slow", amount=30)
    with pytest.raises(KaggleError, match="did not end within 3 s"):
        KaggleClient("tiny-cars", RetryPolicy(start_s=3, tries=1)).files()


def test_passing_failures_are_tried_again(standin: Standin) -> None:
    standin.faults.add("ListDataFiles", "500")
    assert KaggleClient("tiny-cars", RetryPolicy(tries=2, pause_s=0.01)).files()


def test_time_limit_grows_with_the_file() -> None:
    patience = RetryPolicy(start_s=100, bytes_per_s=1e6)
    assert patience.limit(0) == 100
    assert patience.limit(300_000_000) == 400


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("401 Client Error: Unauthorized for url: x", "credentials"),
        ("Authentication required to call the Kaggle API.", "credentials"),
        ("403 You must accept this competition's rules before you'll be able to download files.", "rules"),
        ("403 Permission 'competitions.participate' was denied", "forbidden"),
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
    ],
)
def test_classify(text: str, cause: str) -> None:
    assert classify_output(text) == cause


def test_every_cause_has_its_own_sentence() -> None:
    sentences = {str(kaggle_error(cause, "tiny-cars", "says this", 5)) for cause in Cause.__args__}
    assert len(sentences) == len(Cause.__args__)
    assert not [sentence for sentence in sentences if "http" in sentence or "{" in sentence]


def test_the_client_waits_for_no_terminal_and_leaves_with_its_parent(standin: Standin) -> None:
    """A client whose parent was killed ends by itself, instead of writing on beside the next one."""
    import subprocess
    import sys
    import time

    standin.faults.add("ListDataFiles", "slow", amount=20)
    code = "from pipeline.submission.kaggle import Kaggle; Kaggle('tiny-cars').files()"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    while "ListDataFiles" not in standin.calls:
        time.sleep(0.05)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("this system does not list the children of a process")
    child = int(children.read_text().split()[0])
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.1)
    else:
        assert not Path(f"/proc/{child}").exists()


# ---- credentials


def test_credentials_never_reach_a_message(
    kaggle: KaggleClient, standin: Standin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account = standin.world.accounts[0]
    # The client then prints every request with its headers.
    monkeypatch.setenv("VERBOSE", "1")
    monkeypatch.setenv("http_proxy", f"http://{account.name}:{account.key}@127.0.0.1:9")
    with pytest.raises(KaggleError) as caught:
        kaggle.files()
    assert account.key not in str(caught.value) + caplog.text + repr(caught.value.__context__)
    assert account.key not in str(kaggle_error("refused", "x", scrub(f"odd: {account.key}")))


def test_scrub_knows_every_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / ".kaggle"
    folder.mkdir()
    (folder / "kaggle.json").write_text('{"username": "ada", "key": "secret-in-the-file"}')
    (folder / "access_token").write_text("secret-token\n")
    (folder / "credentials.json").write_text('{"refresh_token": "secret-refresh", "access_token": "secret-access"}')
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    monkeypatch.setenv("KAGGLE_KEY", "secret-in-the-environment")
    basic = "YWRhOnNlY3JldC1pbi10aGUtZmlsZQ=="  # ada:secret-in-the-file
    text = f"""secret-in-the-file secret-token secret-refresh secret-access secret-in-the-environment {basic}
    Authorization: Bearer abcdefghijkl 'authorization': 'Basic QWxhZGRpbjpvcGVu' http://ada:pass@proxy:80/
    GET https://storage/train.zip?X-Goog-Signature=abcdef&Expires=1 failed"""
    scrubbed = scrub(text)
    for secret in ("secret", basic, "abcdefghijkl", "QWxhZGRpbjpvcGVu", "ada:pass", "abcdef"):
        assert secret not in scrubbed
    assert "https://storage/train.zip?" in scrubbed
    assert scrubbed.endswith("failed")


def test_names_where_credentials_are_in_the_clients_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert credential_sources() == []
    folder = home / ".kaggle"
    folder.mkdir()
    (folder / "kaggle.json").write_text("{}")
    (folder / "access_token").write_text("secret-token")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert credential_sources() == [str(folder / "access_token"), "KAGGLE_KEY", str(folder / "kaggle.json")]
    monkeypatch.setenv("KAGGLE_API_TOKEN", "x" * 5000)
    assert credential_sources()[0] == "KAGGLE_API_TOKEN"


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_warns_once_of_credentials_that_others_can_read(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = home / ".kaggle" / "kaggle.json"
    path.parent.mkdir()
    path.write_text('{"username": "ada", "key": "secret"}')
    path.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        warn_if_readable()
        assert not caplog.text
        path.chmod(0o644)
        warn_if_readable()
        warn_if_readable()
    assert caplog.text.count("can be read by other users") == 1
    assert f"chmod 600 {path}" in caplog.text
    assert "secret" not in caplog.text


def test_another_account_sees_nothing_of_ours(
    kaggle: KaggleClient, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.world.accounts.append(Account("grace", joined=False))
    monkeypatch.setenv("KAGGLE_USERNAME", "grace")
    monkeypatch.setenv("KAGGLE_KEY", standin.world.accounts[1].key)
    with pytest.raises(KaggleError, match="rules"):
        kaggle.submissions()
