"""Fixtures of the Kaggle tests: a tiny competition on the stand-in, and an account with credentials."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.kaggle.client import KaggleClient
from pipeline.kaggle.credentials import _warn_once
from tests.kaggle.helpers import FAST_RETRY, SLUG, WRONG_IMAGE, read_tree, write_competition
from tests.standin.archives import make_scorer, pack_files
from tests.standin.backend import Backend
from tests.standin.server import StandinServer


@pytest.fixture
def tiny(tmp_path: Path) -> Competition:
    """The tiny competition with a slug and a download table; its TOML file is in `tmp_path`/competitions."""
    return write_competition(tmp_path / "competitions")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder. Calls that do not go to the stand-in go to a closed port."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(folder / ".kaggle"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    _warn_once.cache_clear()
    return folder


@pytest.fixture
def standin(
    home: Path, tiny: Competition, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandinServer]:
    """A stand-in that offers the tiny competition; the client finds it and the key of its first account."""
    files = pack_files(tiny, data, tmp_path / "offered", replaced_content=WRONG_IMAGE)
    with StandinServer(Backend(SLUG, files, make_scorer(tiny, data), tmp_path / "uploads")) as server:
        for name, value in server.environment(with_token=False).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def client(standin: StandinServer) -> KaggleClient:
    """A client of the tiny competition that does not retry."""
    return KaggleClient(SLUG, FAST_RETRY)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The data folder to fill."""
    return tmp_path / "target"


@pytest.fixture
def train_only(tiny: Competition, standin: StandinServer, tmp_path: Path) -> Competition:
    """The competition with train.zip only, in its TOML file too."""
    return write_competition(tmp_path / "competitions", ["train.zip"])


@pytest.fixture
def expected(data: Path) -> dict[str, bytes]:
    """The files of a complete download."""
    files = read_tree(data)
    del files["solution.csv"]
    return files
