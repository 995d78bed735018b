"""Data and results in an object store, behind a network that drops connections and is slow."""

import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.options import parse_data
from pipeline.paths import submission_spool
from pipeline.storage import is_url, mirror_data, stored_results
from tests.test_scripts import RECIPE, workplace  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[1]
SECRET = "wJalrXUtnFEMI"
pytestmark = pytest.mark.slow


class Proxy:
    """Passes connections on to a port; may cut some of them, or wait before each answer."""

    def __init__(self, port: int) -> None:
        self.target, self.drop, self.delay, self.cut = port, 0.0, 0.0, 0
        self.random = random.Random(0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        limit = self.random.randrange(2000) if self.random.random() < self.drop else None
        self.cut += limit is not None
        time.sleep(self.delay)
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=self._copy, args=(server, client, limit), daemon=True)
            back.start()
            self._copy(client, server, None)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data if limit is None else data[:limit])
                if limit is not None and (limit := limit - len(data)) <= 0:
                    break
            target.shutdown(socket.SHUT_RDWR)
            source.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@contextmanager
def interrupted_after(files: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise KeyboardInterrupt after a number of downloads, and expect it at the end of the block."""
    fetch, calls = storage._Store._fetch_one, []

    def fetch_some(self, one, temporary):
        calls.append(one.key)
        if len(calls) > files:
            raise KeyboardInterrupt
        fetch(self, one, temporary)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "THREADS", 1)
        patch.setattr(storage._Store, "_fetch_one", fetch_some)
        with pytest.raises(KeyboardInterrupt):
            yield


def test_urls_are_told_from_folders():
    assert is_url("s3://bucket/data")
    assert not is_url("data/carvana")
    assert not is_url("")


@pytest.mark.parametrize("url", [f"s3://user:{SECRET}@bucket/data", f"ftp://me:{SECRET}@host/x"])
def test_credentials_in_a_url_are_refused_without_repeating_them(url):
    with pytest.raises(UserError, match="holds a user name or a password") as caught:
        mirror_data(url)
    assert SECRET not in str(caught.value)


def test_unknown_store_is_a_sentence():
    with pytest.raises(UserError, match=r"gopher://x/y: is of an unknown kind"):
        mirror_data("gopher://x/y")


@pytest.fixture(scope="module")
def server():
    """A local server that answers as S3 does."""
    pytest.importorskip("s3fs", reason="the packages of requirements-storage.txt are not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


class TestStore:
    @pytest.fixture
    def proxy(self, server, tmp_path, monkeypatch):
        proxy = Proxy(server)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(storage, "FIRST_PAUSE", 0.02)
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy
        proxy.listener.close()

    @pytest.fixture
    def bucket(self, proxy):
        """An empty bucket and its file system."""
        import s3fs

        files = s3fs.S3FileSystem(use_listings_cache=False)
        name = f"bucket{random.randrange(10**9)}"
        files.mkdir(name)
        return files, name

    def fill(self, bucket, texts: dict[str, str]) -> str:
        files, name = bucket
        for path, text in texts.items():
            files.pipe_file(f"{name}/data/{path}", text.encode())
        return f"s3://{name}/data"

    def test_mirror_has_the_files_of_the_store_and_follows_changes(self, bucket, caplog):
        texts = {f"train/{number}.txt": f"text {number}" * number for number in range(40)} | {"a.csv": "x"}
        url = self.fill(bucket, texts)
        with caplog.at_level(logging.DEBUG):
            folder = parse_data(url, "carvana")
        assert {
            path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*") if path.name[0] != "."
        } == texts
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.txt")}
        self.fill(bucket, {"train/3.txt": "new"})
        (folder / "train" / "5.txt").unlink()
        assert mirror_data(url) == folder
        assert (folder / "train" / "3.txt").read_text() == "new"
        assert (folder / "train" / "5.txt").read_text() == texts["train/5.txt"]
        changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
        assert sorted(changed) == ["3.txt", "5.txt"]
        assert SECRET not in caplog.text

    def test_dropped_connections_and_slow_answers_change_nothing(self, bucket, proxy):
        texts = {f"{number}.bin": "0123456789" * 5000 for number in range(30)}
        url = self.fill(bucket, texts)
        proxy.drop, proxy.delay = 0.3, 0.05
        bucket[0].clear_instance_cache()
        folder = mirror_data(url)
        assert proxy.cut > 0
        assert all((folder / name).read_text() == text for name, text in texts.items())
        assert not [path for path in folder.rglob(".*") if path.name != ".manifest.json"]

    def test_interrupted_mirror_resumes(self, bucket, monkeypatch):
        url = self.fill(bucket, {f"{number}.txt": "text" for number in range(12)})
        with interrupted_after(5, monkeypatch):
            mirror_data(url)
        fetch, calls = storage._Store._fetch_one, []
        monkeypatch.setattr(storage._Store, "_fetch_one", lambda *a: calls.append(a[1].key) or fetch(*a))
        folder = mirror_data(url)
        assert len(calls) == 7
        assert len(list(folder.glob("*.txt"))) == 12

    @pytest.mark.parametrize(
        ("url", "error"),
        [("s3://no-such-bucket-here/x", "does not exist; check the name of the bucket"), ("empty", "holds no files")],
    )
    def test_wrong_place_is_a_sentence(self, bucket, url, error):
        with pytest.raises(UserError, match=error):
            mirror_data(f"s3://{bucket[1]}/{url}" if url == "empty" else url)

    def test_refused_credentials_and_no_network_are_sentences(self, bucket, proxy, monkeypatch):
        url = self.fill(bucket, {"a.txt": "x"})
        monkeypatch.setattr(storage, "ATTEMPTS", 2)
        bucket[0].clear_instance_cache()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(UserError, match=r"does not answer \(\w+\); check the network") as caught:
            mirror_data(url)
        assert SECRET not in str(caught.value)

        def refuse(*_, **__):
            raise PermissionError("AccessDenied")

        monkeypatch.setattr("s3fs.S3FileSystem.find", refuse)
        with pytest.raises(UserError, match="may not be used with these credentials"):
            mirror_data(url)

    def test_object_outside_of_the_folder_is_refused(self, bucket, monkeypatch):
        found = {f"{bucket[1]}/data/../../x": {"size": 1, "ETag": "1"}}
        monkeypatch.setattr("s3fs.S3FileSystem.find", lambda *_, **__: found)
        with pytest.raises(UserError, match="would lie outside of the folder"):
            mirror_data(f"s3://{bucket[1]}/data")

    def test_full_disk_is_a_sentence_at_once(self, bucket, monkeypatch):
        url = self.fill(bucket, {"a.txt": "x"})

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("s3fs.S3FileSystem.get_file", full)
        with pytest.raises(UserError, match="no space is left on this disk"):
            mirror_data(url)

    def test_results_move_to_another_machine(self, bucket, monkeypatch, tmp_path):
        monkeypatch.setenv("STORE", f"s3://{bucket[1]}/results")
        for machine in ("first", "second"):
            (tmp_path / machine).mkdir()
        monkeypatch.chdir(tmp_path / "first")
        with stored_results():
            Path("runs/x/fold0").mkdir(parents=True)
            Path("runs/x/fold0/checkpoint.pt").write_text("step 1")
            Path("runs/x/.fold0.lock").write_text("")
        monkeypatch.chdir(tmp_path / "second")
        with stored_results():
            assert Path("runs/x/fold0/checkpoint.pt").read_text() == "step 1"
            assert not Path("runs/x/.fold0.lock").exists()
            Path("runs/x/fold0/checkpoint.pt").write_text("step 20")
        monkeypatch.chdir(tmp_path / "first")
        with stored_results():
            assert Path("runs/x/fold0/checkpoint.pt").read_text() == "step 20"

    def test_deleted_and_renamed_files_do_not_come_back(self, bucket, monkeypatch, tmp_path):
        """Weights of another recipe beside the new recipe's files would count as the finished training."""
        monkeypatch.setenv("STORE", f"s3://{bucket[1]}/results")
        fold = Path("runs/x/fold0")
        with stored_results():
            fold.mkdir(parents=True)
            for name in ("weights.safetensors", "recipe.toml", "checkpoint.pt"):
                (fold / name).write_text("old")
        (fold / "checkpoint.pt").unlink()
        with stored_results():
            assert not (fold / "checkpoint.pt").exists()
            fold.rename("runs/x/fold0~1")
            fold.mkdir()
            (fold / "recipe.toml").write_text("new")
        with stored_results():
            assert sorted(path.name for path in fold.iterdir()) == ["recipe.toml"]
        shutil.rmtree("runs")  # to free the disk
        with stored_results():
            assert (fold / "recipe.toml").read_text() == "new"
            assert Path("runs/x/fold0~1/weights.safetensors").read_text() == "old"

    def test_an_interrupted_restore_loses_nothing(self, bucket, monkeypatch):
        monkeypatch.setenv("STORE", f"s3://{bucket[1]}/results")
        fold = Path("runs/x/fold0")
        with stored_results():
            fold.mkdir(parents=True)
            for number in range(5):
                (fold / f"{number}.txt").write_text("text")
        shutil.rmtree("runs")
        with interrupted_after(2, monkeypatch), stored_results():
            pass
        assert len(list(fold.glob("*.txt"))) < 5
        with stored_results():
            assert len(list(fold.glob("*.txt"))) == 5

    def test_equal_files_need_no_state_and_others_are_named(self, bucket, monkeypatch, caplog):
        monkeypatch.setenv("STORE", f"s3://{bucket[1]}/results")
        with stored_results():
            Path("submissions").mkdir()
            Path("submissions/a.csv").write_text("same")
            Path("submissions/b.csv").write_text("old")
        shutil.rmtree(".make")
        Path("submissions/b.csv").write_text("new")
        with stored_results():
            assert Path("submissions/b.csv").read_text() == "new"
        warned = [record.getMessage() for record in caplog.records if record.name == storage.__name__]
        assert [message.partition(":")[0] for message in warned] == ["submissions/b.csv"]

    def test_rows_of_an_unfinished_prediction_are_published(self, bucket, monkeypatch):
        files, name = bucket
        monkeypatch.setenv("STORE", f"s3://{name}/results")
        spool = submission_spool(Path("submissions/x.csv.gz"))
        with stored_results():
            spool.parent.mkdir()
            spool.write_text("# {}\n")
        assert files.exists(f"{name}/results/{spool}")

    def test_files_are_published_while_a_stage_runs(self, bucket, monkeypatch):
        files, name = bucket
        monkeypatch.setenv("STORE", f"s3://{name}/results")
        monkeypatch.setattr(storage, "PUBLISH_EVERY", 0.1)
        with stored_results():
            Path("runs").mkdir()
            Path("runs/checkpoint.pt").write_text("step 1")
            for _ in range(100):
                if files.exists(f"{name}/results/runs/checkpoint.pt"):
                    break
                time.sleep(0.1)
            else:
                pytest.fail("it was not published")

    def test_stages_give_the_same_from_a_store(self, bucket, proxy, workplace, untouched_runs):  # noqa: F811
        files, name = bucket
        files.put("data/", f"{name}/cars/", recursive=True)
        shutil.copytree(untouched_runs, "runs/tiny")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        results = []
        for data in ("data", f"s3://{name}/cars"):
            proxy.drop = 0.1
            options = [*RECIPE[:2], "--data", data, *RECIPE[4:]]
            command = [sys.executable, "-m", "scripts.predict", *options]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert SECRET not in done.stderr
            out = Path("submissions/tiny.csv.gz")
            results.append(out.read_bytes())
            out.unlink()
        assert results[0] == results[1]
