"""A tiny competition on a stand-in for Kaggle, and a home without credentials, so that nothing leaves this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.competition import Competition, load_competition
from pipeline.kaggle.client import KaggleClient, RetryPolicy
from pipeline.kaggle.credentials import _warn
from tests.standin.archives import pack, scorer
from tests.standin.server import Standin
from tests.standin.world import World

HASTY = RetryPolicy(start_s=20.0, stall_s=10.0, tries=1, pause_s=0.1)
TOML = """
slug = "tiny-cars"
title = "Tiny"
folds = 2

[images]
train = "train"
test = "test"
suffixes = [".jpg"]
size = [94, 62]

[masks]
train = "train_masks"
suffixes = ["_mask.gif"]
positive = 1
area = [0.01, 0.9]

[groups]
pattern = "^([a-z]+)_[0-9]{2}$"
size = 3

[csv]
columns = ["img", "rle_mask"]
id = "name"
order = "row"
train = "train_masks.csv"
sample = "sample_submission.csv"
solution = "solution.csv"

[download]
files = [
    { name = "omega_02.jpg", to = "test/omega_02.jpg", mb = 0.1 },
    { name = "train_masks.csv.zip", to = "train_masks.csv", mb = 0.1 },
    { name = "sample_submission.csv.zip", to = "sample_submission.csv", mb = 0.1 },
    { name = "train_masks.zip", to = "train_masks", mb = 0.1 },
    { name = "train.zip", to = "train", mb = 0.1 },
    { name = "train_hq.zip", to = "train_hq", mb = 0.1 },
    { name = "test.zip", to = "test", mb = 0.1 },
]
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Competition:
    """Carvana in small, with a slug and a list of files; its TOML lies in `tmp_path`/competitions."""
    folder = tmp_path / "competitions"
    folder.mkdir()
    (folder / "tiny.toml").write_text(TOML)
    return load_competition("tiny", folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; and should a call go astray, it ends at a closed port."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(folder / ".kaggle"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    _warn.cache_clear()
    return folder


@pytest.fixture
def standin(
    home: Path, tiny: Competition, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Standin]:
    """The tiny competition, online; the client finds it and the credentials of its first account."""
    assert tiny.slug
    files = pack(tiny, data, tmp_path / "offered", broken=b"no picture")
    with Standin(World(tiny.slug, files, scorer(tiny, data), tmp_path / "uploads")) as server:
        for name, value in server.environment(token=False).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine the threads of tiny layers wait for each other a hundred times longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def kaggle(standin: Standin) -> KaggleClient:
    """The client on the tiny competition, without patience."""
    return KaggleClient(standin.world.slug, HASTY)
