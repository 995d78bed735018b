"""Interrupted downloads resume, and nothing is downloaded or unpacked twice."""

import random
import signal
import time
import zipfile
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.files import lock
from pipeline.kaggle.client import RetryPolicy
from pipeline.kaggle.records import DownloadRecords
from tests.kaggle.helpers import fetch, start_python
from tests.standin.server import StandinServer

pytestmark = pytest.mark.slow


def offer_large_archive(standin: StandinServer, megabytes: int) -> bytes:
    """Offer large training images, and return their content.

    The client writes one megabyte at a time, so it does not resume small files.
    """
    content = random.Random(1).randbytes(megabytes << 20)
    with zipfile.ZipFile(standin.backend.files["train.zip"], "w") as packed:
        for index in range(megabytes):
            packed.writestr(f"train/alpha_{index:02d}.jpg", content[index << 20 : (index + 1) << 20])
    return content


def read_images(target: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((target / "train").iterdir()))


def download_code(tmp_path: Path, target: Path) -> str:
    """Return Python code that downloads the tiny competition."""
    return (
        "from pathlib import Path\n"
        "from pipeline.competition import load_competition\n"
        "from pipeline.kaggle import download\n"
        f"tiny = load_competition('tiny', Path({str(tmp_path / 'competitions')!r}))\n"
        f"download.download_competition(tiny, Path({str(target)!r}))\n"
    )


@pytest.mark.slow
def test_a_download_that_is_killed_again_and_again_resumes(
    train_only: Competition, standin: StandinServer, tmp_path: Path, target: Path
) -> None:
    content = offer_large_archive(standin, 12)
    name = "train.zip"
    total = standin.backend.files[name].stat().st_size
    positions = sorted(random.Random(7).sample(range(1, total), 3))
    incoming = target / ".download" / "incoming" / name / name
    for index, position in enumerate(positions):
        before = incoming.stat().st_size if incoming.exists() else 0
        step = f"{'REST' if before else 'GET'} {name}"
        standin.faults.add(step, ("disconnect", "hang")[index % 2], amount=position - before)
        standin.sent_bytes.clear()
        process = start_python(download_code(tmp_path, target))
        while standin.sent_bytes[step] < position - before:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)
        process.kill()
        process.wait()
        time.sleep(0.6)  # the client notices within half a second that its parent has ended
        after = incoming.stat().st_size if incoming.exists() else 0
        assert before <= after <= position
        assert after >= position - (2 << 20)
    standin.sent_bytes.clear()
    assert fetch(train_only, target) == [name]
    assert standin.sent_bytes[f"REST {name}"] < total - positions[-1] + (3 << 20)
    assert read_images(target) == content


@pytest.mark.parametrize("fault", ["disconnect", "hang"])
def test_an_interrupted_connection_is_resumed(
    train_only: Competition, standin: StandinServer, target: Path, fault: str
) -> None:
    content = offer_large_archive(standin, 3)
    standin.faults.add("GET train.zip", fault, amount=2_200_000)
    retry = RetryPolicy(stall_timeout_s=3, max_attempts=3, backoff_s=0.1)
    assert fetch(train_only, target, retry) == ["train.zip"]
    assert read_images(target) == content


def test_a_connection_that_stays_silent_is_an_error(
    train_only: Competition, standin: StandinServer, target: Path
) -> None:
    standin.faults.add("GET train.zip", "hang", times=None, amount=10)
    with pytest.raises(UserError, match="Kaggle sent no data for 2 s; run the same command again to continue"):
        fetch(train_only, target, RetryPolicy(stall_timeout_s=2, max_attempts=1))


def test_unpacking_resumes_without_another_download(
    train_only: Competition, standin: StandinServer, tmp_path: Path, target: Path
) -> None:
    content = offer_large_archive(standin, 3)
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from pipeline.kaggle import download\n"
        "original, renamed = Path.replace, []\n"
        "def replace(self, target):\n"
        "    if 'alpha' in self.name:\n"
        "        renamed.append(target)\n"
        "        if len(renamed) == 3:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(self, target)\n"
        "Path.replace, download.UNPACK_WORKERS = replace, 1\n"
    )
    process = start_python(code + download_code(tmp_path, target))
    assert process.wait() == -signal.SIGKILL
    first = (target / "train" / "alpha_00.jpg").stat().st_mtime_ns
    assert len(list((target / "train").iterdir())) == 3, "two files and a temporary one"
    downloads = standin.calls.count("GET train.zip")
    assert fetch(train_only, target) == ["train.zip"]
    assert standin.calls.count("GET train.zip") == downloads
    assert (target / "train" / "alpha_00.jpg").stat().st_mtime_ns == first
    assert [path.name for path in sorted((target / "train").iterdir())] == [f"alpha_0{i}.jpg" for i in range(3)]
    assert read_images(target) == content


def test_two_downloads_at_once_are_refused(tiny: Competition, standin: StandinServer, target: Path) -> None:
    with lock(DownloadRecords(target).lock), pytest.raises(UserError, match="another download is running here"):
        fetch(tiny, target)
