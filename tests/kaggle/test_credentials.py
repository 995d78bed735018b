"""Credentials are found where the client finds them, and are redacted from everything that is printed."""

import base64
import logging
import lzma
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths
from pipeline.competition import Competition
from pipeline.kaggle.client import KaggleClient
from pipeline.kaggle.credentials import credential_sources, redact_credentials, warn_if_readable
from pipeline.kaggle.errors import KaggleError, kaggle_error
from pipeline.kaggle.kernel.build import write_kernel
from pipeline.kaggle.kernel.weights_dataset import write_weights_dataset
from pipeline.recipe import Recipe
from tests.kaggle.helpers import FAST_RETRY, SLUG, fetch, only_files
from tests.standin.server import StandinServer

pytestmark = pytest.mark.slow


def test_errors_contain_no_credentials(
    client: KaggleClient, standin: StandinServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account = standin.backend.accounts[0]
    # With this variable the client prints every request with its headers.
    monkeypatch.setenv("VERBOSE", "1")
    monkeypatch.setenv("http_proxy", f"http://{account.name}:{account.key}@127.0.0.1:9")
    with pytest.raises(KaggleError) as caught:
        client.list_files()
    assert account.key not in str(caught.value) + caplog.text + repr(caught.value.__context__)
    assert account.key not in str(kaggle_error("refused", "x", redact_credentials(f"odd: {account.key}")))


def test_credentials_of_every_source_are_redacted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    redacted = redact_credentials(text)
    for secret in ("secret", basic, "abcdefghijkl", "QWxhZGRpbjpvcGVu", "ada:pass", "abcdef"):
        assert secret not in redacted
    assert "https://storage/train.zip?" in redacted
    assert redacted.endswith("failed")


@pytest.mark.parametrize(("key", "redacted"), [("12345", "12345 fits"), ("123456", "••• fits")])
def test_values_that_occur_in_ordinary_words_are_not_redacted(
    home: Path, monkeypatch: pytest.MonkeyPatch, key: str, redacted: str
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", key)
    assert redact_credentials(f"{key} fits") == redacted


def test_sources_are_listed_in_the_clients_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert credential_sources() == []
    folder = home / ".kaggle"
    folder.mkdir()
    (folder / "kaggle.json").write_text("{}")
    (folder / "access_token").write_text("secret-token")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert credential_sources() == [str(folder / "access_token"), "KAGGLE_KEY", str(folder / "kaggle.json")]
    # A long token is not a valid file name.
    monkeypatch.setenv("KAGGLE_API_TOKEN", "x" * 5000)
    assert credential_sources()[0] == "KAGGLE_API_TOKEN"


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_credentials_that_others_can_read_give_one_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_the_token_stays_with_the_client(
    tiny: Competition,
    recipe: Recipe,
    standin: StandinServer,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In no log, output or command line, and in no file of a download, a kernel or a dataset."""
    account = standin.backend.accounts[0]
    monkeypatch.setenv("KAGGLE_API_TOKEN", account.token)
    monkeypatch.chdir(tmp_path)
    started: list[str] = []
    popen = subprocess.Popen

    def record(command: list[str], *arguments: Any, **options: Any) -> Any:
        started.extend(map(str, command))
        return popen(command, *arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", record)
    caplog.set_level(logging.DEBUG)
    client = KaggleClient(SLUG, FAST_RETRY)
    fetch(only_files(tiny, "omega_02.jpg"), tmp_path / "target")
    (tmp_path / "a.csv").write_text("img,rle_mask\n")
    printed = [client.submit(tmp_path / "a.csv", "a message"), str(client.list_submissions())]
    account.accepted_rules = False
    with pytest.raises(KaggleError) as caught:
        client.list_files()
    write_kernel(tiny, [recipe], tmp_path / "kernel", "ada")
    shutil.copytree(trained, tmp_path / paths.runs_folder("tiny", recipe.name))
    write_weights_dataset("tiny", recipe.name, [0], tmp_path / "dataset", "ada")

    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    packed = (tmp_path / "kernel" / "kernel.py").read_text().partition('PACKED = """')[2].partition('"""')[0]
    contents.append(lzma.decompress(base64.b85decode("".join(packed.split()))))
    output = capfd.readouterr()
    texts = [caplog.text, output.out, output.err, repr(caught.value), str(caught.value), *started, *printed]
    assert len(started) > 20
    for secret in (account.token, account.key):
        assert len(secret) > 8
        assert not any(secret in text for text in texts)
        assert not any(secret.encode() in content for content in contents)
