"""Downloads through the real client: whole or absent, going on where they stopped, and nothing twice."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.competition import Competition, DownloadConfig, DownloadFile
from pipeline.errors import UserError
from pipeline.kaggle import download
from pipeline.kaggle.client import RetryPolicy
from pipeline.kaggle.download import _alone, download_competition, required_files
from tests.kaggle.conftest import HASTY
from tests.standin.server import Standin

REPOSITORY = Path(__file__).resolve().parents[2]
WANTED = [
    "train_masks.csv.zip",
    "sample_submission.csv.zip",
    "train_masks.zip",
    "train.zip",
    "test.zip",
    "omega_02.jpg",
]


def fetch(competition: Competition, data: Path, patience: RetryPolicy = HASTY) -> list[str]:
    return download_competition(competition, data, patience)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file a user sees, with its content."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if ".download" not in path.parts}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


def only(competition: Competition, *names: str) -> Competition:
    """The competition with some of its files, to spend fewer starts of the client."""
    assert competition.download
    files = tuple(file for file in competition.download.files if file.name in names)
    return competition.model_copy(update={"download": DownloadConfig(files=files)})


# ---- the way it should go


def test_brings_everything_once(tiny: Competition, standin: Standin, data: Path, into: Path) -> None:
    assert fetch(tiny, into) == WANTED
    truth = tree(data)
    truth.pop("solution.csv")
    assert tree(into) == truth, "the picture broken in the archive too is the loose one"
    assert {path.name for path in (into / ".download").iterdir()} == {
        "lock",
        "train.json",
        "test.json",
        "train_masks.json",
        "train_masks.csv.json",
        "sample_submission.csv.json",
        "test__omega_02.jpg.json",
    }
    # The second time there is nothing to do, not even a question to ask.
    calls, before = len(standin.calls), {path: path.stat().st_mtime_ns for path in into.rglob("*")}
    assert fetch(tiny, into) == []
    assert len(standin.calls) == calls
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*")} == before
    # What is missing or has another size comes again, and only that.
    (into / "train" / "alpha_01.jpg").unlink()
    (into / "test" / "omega_02.jpg").write_bytes(b"cut")
    assert fetch(tiny, into) == ["train.zip", "omega_02.jpg"]
    assert tree(into) == truth


def test_takes_archives_that_lie_there_already(tiny: Competition, standin: Standin, data: Path, into: Path) -> None:
    into.mkdir()
    for name, path in standin.world.files.items():
        shutil.copy(path, into / name)
    assert fetch(tiny, into) == WANTED
    assert standin.calls == []
    assert (into / "train.zip").exists(), "what was put there by hand is not ours to delete"
    assert (into / "test" / "omega_02.jpg").read_bytes() == (data / "test" / "omega_02.jpg").read_bytes()


def test_wants_what_the_competition_reads() -> None:
    from pipeline.competition import load_competition

    normal = [file.name for file in required_files(load_competition("carvana", REPOSITORY / "competitions"))]
    best = [file.name for file in required_files(load_competition("carvana_hq", REPOSITORY / "competitions"))]
    assert {"train.zip", "test.zip", "train_masks.zip"} < set(normal)
    assert not any("hq" in name for name in normal)
    assert {name.replace("_hq", "") for name in best} == set(normal)
    assert normal[-1] == best[-1] == "29bb3ece3180_11.jpg", "after the archive that it mends"
    with pytest.raises(UserError, match=r"nuclei\.toml: has no slug"):
        required_files(load_competition("nuclei", REPOSITORY / "competitions"))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "", "a//b"])
def test_settings_stay_inside_the_data_folder(path: str) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        DownloadFile(name="a.zip", to=path, mb=1)


# ---- interrupted


def _big(standin: Standin, tiny: Competition, megabytes: int) -> tuple[Competition, bytes]:
    """Let the training images be large: the client writes a megabyte at a time, so small files are not resumed."""
    path = standin.world.files["train.zip"]
    content = random.Random(1).randbytes(megabytes << 20)
    with zipfile.ZipFile(path, "w") as packed:
        for index in range(megabytes):
            packed.writestr(f"train/alpha_{index:02d}.jpg", content[index << 20 : (index + 1) << 20])
    return only(tiny, "train.zip"), content


def _command(tmp_path: Path, into: Path) -> list[str]:
    code = (
        "from pathlib import Path; from pipeline import competition; from pipeline.submission import download;"
        f"c = competition.load('tiny', Path({str(tmp_path / 'competitions')!r}));"
        f"download.download(c, Path({str(into)!r}))"
    )
    return [sys.executable, "-c", code]


@pytest.mark.slow
def test_cut_at_ten_random_places_it_ends_whole(
    tiny: Competition, standin: Standin, tmp_path: Path, into: Path
) -> None:
    """At each place the connection breaks or falls silent, and then the whole download is killed."""
    competition, content = _big(standin, tiny, 24)
    name = "train.zip"
    total = standin.world.files[name].stat().st_size
    places = sorted(random.Random(7).sample(range(1, total), 10))
    incoming = into / ".download" / "incoming" / name / name
    # Only this file counts here.
    toml = tmp_path / "competitions" / "tiny.toml"
    lines = toml.read_text().splitlines()
    toml.write_text("\n".join(line for line in lines if "{ name" not in line or '"train.zip"' in line))
    for index, place in enumerate(places):
        have = incoming.stat().st_size if incoming.exists() else 0
        step = f"{'REST' if have else 'GET'} {name}"
        standin.faults.add(step, ("cut", "hang")[index % 2], amount=place - have)
        standin.served.clear()
        process = subprocess.Popen(_command(tmp_path, into), cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        while standin.served[step] < place - have:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)
        process.kill()
        process.wait()
        time.sleep(0.6)  # the client sees within half a second that it is alone
        now = incoming.stat().st_size if incoming.exists() else 0
        assert have <= now <= place
        assert now >= place - (2 << 20), "all but the last megabytes is kept"
    standin.served.clear()
    assert fetch(competition, into) == [name]
    assert standin.served[f"REST {name}"] < total - places[-1] + (3 << 20), "the rest was fetched, not the whole"
    assert b"".join(path.read_bytes() for path in sorted((into / "train").iterdir())) == content


def test_a_broken_connection_is_taken_up_by_the_client(tiny: Competition, standin: Standin, into: Path) -> None:
    competition, content = _big(standin, tiny, 3)
    standin.faults.add("GET train.zip", "cut", amount=2_200_000)
    assert fetch(competition, into) == ["train.zip"]
    assert b"".join(path.read_bytes() for path in sorted((into / "train").iterdir())) == content


def test_a_silent_connection_is_given_up_and_taken_up_again(tiny: Competition, standin: Standin, into: Path) -> None:
    competition, content = _big(standin, tiny, 3)
    standin.faults.add("GET train.zip", "hang", amount=2_200_000)
    assert fetch(competition, into, RetryPolicy(stall_s=3, tries=3, pause_s=0.1)) == ["train.zip"]
    assert b"".join(path.read_bytes() for path in sorted((into / "train").iterdir())) == content


def test_a_silent_connection_ends_in_a_sentence(tiny: Competition, standin: Standin, into: Path) -> None:
    standin.faults.add("GET train.zip", "hang", times=None, amount=10)
    with pytest.raises(UserError, match="nothing arrived from Kaggle for 2 s; run the same command again"):
        fetch(only(tiny, "train.zip"), into, RetryPolicy(stall_s=2, tries=1))


def test_killed_while_unpacking(tiny: Competition, standin: Standin, tmp_path: Path, into: Path) -> None:
    """What is unpacked stays, what is half-written goes, and nothing is fetched again."""
    competition, content = _big(standin, tiny, 3)
    code = (
        "import os, signal; from pathlib import Path; from pipeline.submission import archive, download;"
        "kept = Path.replace; done = []\n"
        "def replace(self, target):\n"
        "    if 'alpha' in self.name: done.append(1); len(done) == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return kept(self, target)\n"
        "Path.replace = replace; download.WORKERS = 1\n"
    )
    command = _command(tmp_path, into)
    command[-1] = code + command[-1]
    toml = tmp_path / "competitions" / "tiny.toml"
    lines = toml.read_text().splitlines()
    toml.write_text("\n".join(line for line in lines if "{ name" not in line or '"train.zip"' in line))
    process = subprocess.run(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, check=False)
    assert process.returncode == -signal.SIGKILL
    first = (into / "train" / "alpha_00.jpg").stat().st_mtime_ns
    assert len(list((into / "train").iterdir())) == 3, "two files, and one half-written"
    gets = standin.calls.count("GET train.zip")
    assert fetch(competition, into) == ["train.zip"]
    assert standin.calls.count("GET train.zip") == gets
    assert (into / "train" / "alpha_00.jpg").stat().st_mtime_ns == first
    assert [path.name for path in sorted((into / "train").iterdir())] == [f"alpha_0{i}.jpg" for i in range(3)]
    assert b"".join(path.read_bytes() for path in sorted((into / "train").iterdir())) == content


def test_two_at_once_are_refused(tiny: Competition, standin: Standin, into: Path) -> None:
    with _alone(into), pytest.raises(UserError, match="another download is running here"):
        fetch(tiny, into)


# ---- what is not what it should be


def test_a_page_instead_of_an_archive(tiny: Competition, standin: Standin, into: Path) -> None:
    standin.faults.add("GET train.zip", "html")
    competition = only(tiny, "train.zip")
    with pytest.raises(UserError, match=r"sent a web page instead of train\.zip; .* accept its rules"):
        fetch(competition, into)
    assert not (into / "train").exists()
    assert fetch(competition, into) == ["train.zip"]


@pytest.mark.parametrize(("kind", "amount"), [("short", 100), ("garble", 0)])
def test_a_damaged_archive_is_fetched_once_more(
    tiny: Competition, standin: Standin, into: Path, data: Path, kind: str, amount: int
) -> None:
    standin.faults.add("GET train.zip", kind, amount=amount)
    assert fetch(only(tiny, "train.zip"), into) == ["train.zip"]
    assert tree(into / "train") == tree(data / "train")
    assert standin.calls.count("GET train.zip") == 2


def test_an_archive_damaged_twice_is_refused(tiny: Competition, standin: Standin, into: Path) -> None:
    size = standin.world.files["train.zip"].stat().st_size
    standin.faults.add("GET train.zip", "short", times=2, amount=100)
    words = rf"train.zip: came twice as {size - 100:,} bytes that are not whole .*Kaggle lists {size:,} bytes"
    with pytest.raises(UserError, match=words):
        fetch(only(tiny, "train.zip"), into)
    assert not (into / "train").exists()


def test_a_loose_file_of_wrong_length_is_refused(tiny: Competition, standin: Standin, into: Path) -> None:
    standin.faults.add("GET omega_02.jpg", "short", times=2, amount=10)
    with pytest.raises(UserError, match=r"omega_02\.jpg: came twice as .* not whole"):
        fetch(only(tiny, "omega_02.jpg"), into)
    assert not (into / "test").exists()


def test_a_file_that_is_not_offered(tiny: Competition, standin: Standin, into: Path) -> None:
    del standin.world.files["train.zip"]
    with pytest.raises(UserError, match=r"Kaggle lists no train\.zip in tiny-cars, but omega_02\.jpg, sample_"):
        fetch(only(tiny, "train.zip"), into)


def test_a_replacement_that_is_not_offered(tiny: Competition, standin: Standin, into: Path) -> None:
    del standin.world.files["omega_02.jpg"]
    assert fetch(only(tiny, "test.zip", "omega_02.jpg"), into) == ["test.zip"]
    assert (into / "test" / "omega_02.jpg").read_bytes() == b"no picture", "then the archive's own has to do"
    calls = len(standin.calls)
    assert fetch(only(tiny, "test.zip", "omega_02.jpg"), into) == []
    assert len(standin.calls) == calls


# ---- the disk


def test_a_small_disk_is_seen_before_the_start(
    tiny: Competition, standin: Standin, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1e9, 0.9e9, 0.1e9))
    with pytest.raises(UserError, match=r"into: 0\.2 GB are needed, 0\.1 GB are free"):
        fetch(tiny, into)
    assert "DownloadDataFile" not in standin.calls


def test_a_disk_that_fills_up_on_the_way(
    tiny: Competition, standin: Standin, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1e9, 0, 1e9 if path == into.parent else 1e6))
    monkeypatch.setattr(download, "require_space", lambda *_: None)
    standin.faults.add("GET train.zip", "trickle", amount=1000)
    with pytest.raises(UserError, match="the disk is full; free some space and run the same command again"):
        fetch(only(tiny, "train.zip"), into)
    monkeypatch.undo()


def test_records_are_readable(tiny: Competition, standin: Standin, into: Path) -> None:
    fetch(only(tiny, "train.zip"), into)
    record = json.loads((into / ".download" / "train.json").read_text())
    assert len(record) == 12
    assert record["train/alpha_01.jpg"] == (into / "train" / "alpha_01.jpg").stat().st_size
