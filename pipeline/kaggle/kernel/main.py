"""What runs on Kaggle: the pipeline packed into this one file, on every GPU there is, until the time is up.

`pipeline/submission/kernel.py` fills in the two constants, because a push takes a single file. Until the pipeline is
unpacked nothing but the standard library is needed. A run goes on from the last version's output if that is attached.
"""

import base64
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

PACKED = ""
SETTINGS = "{}"

STOPPED = 3
"""The exit code of a stage that ran out of time and keeps its state."""
SHOWN = "unfinished"
"""Put before the name of a hidden file of the output."""


class Machine:
    """Where things are: Kaggle's own folders, or others in a test."""

    def __init__(self, root: Path = Path("/kaggle"), scratch: Path = Path("/tmp/pipeline")) -> None:
        self.inputs = root / "input"
        self.output = root / "working"
        self.source = scratch / "source"
        self.data = scratch / "data"

    def unpack(self) -> None:
        """The pipeline into its folder; what it writes goes to the notebook's output."""
        self.source.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(base64.b85decode(PACKED.replace("\n", "")))) as packed:
            packed.extractall(self.source, filter="data")
        for name in ("runs", "submissions", "folds"):
            (self.output / name).mkdir(parents=True, exist_ok=True)
            link = self.source / name
            if link.is_dir() and not link.is_symlink():
                shutil.copytree(link, self.output / name, dirs_exist_ok=True)
                shutil.rmtree(link)
            if not link.exists():
                link.symlink_to(self.output / name)
        os.chdir(self.source)

    def add_missing_packages(self) -> None:
        """Wheels from an attached dataset first, then what is packed here; what the image has is left alone."""
        wheels = sorted({path.parent for path in [*self.inputs.glob("*/*.whl"), *self._deeper("*.whl")]})
        if wheels:
            links = [option for folder in wheels for option in ("--find-links", str(folder))]
            names = [path.name.split("-")[0] for folder in wheels for path in folder.glob("*.whl")]
            missing = [name for name in names if importlib.util.find_spec(name) is None]
            if missing:
                run([sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", *links, *missing])
        spare = self.source / "spare"
        used = [path for path in sorted(spare.iterdir()) if importlib.util.find_spec(path.name) is None]
        print("packages not in this image:", ", ".join(path.name for path in used) or "none", flush=True)
        sys.path += map(str, used)
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, [*used, *filter(None, [os.environ.get("PYTHONPATH")])]))

    def resume(self, name: str) -> None:
        """Copy what the last version left in its output."""
        for folder in (f"runs/{name}", "submissions", "folds"):
            for found in [*self.inputs.glob(f"*/{folder}"), *self._deeper(folder)]:
                print(f"goes on from {found}", flush=True)
                copied = shutil.copytree(found, self.output / folder, dirs_exist_ok=True)
                # The mount may not be written to, and its copies inherit that.
                for path in [copied, *copied.rglob("*")]:
                    path.chmod(0o755 if path.is_dir() else 0o644)
        for path in (self.output / "submissions").glob(f"{SHOWN}.*"):
            path.rename(path.with_name(path.name.removeprefix(SHOWN)))

    def show_hidden(self) -> None:
        """Rename the finished rows of an unfinished prediction: nobody promises that hidden files are kept."""
        for path in (self.output / "submissions").glob(".*.rows"):
            path.rename(path.with_name(SHOWN + path.name))

    def _deeper(self, pattern: str) -> list[Path]:
        """Matches in inputs that are mounted by kind and owner: notebooks/<owner>/<name>/…"""
        return [path for depth in ("*/*", "*/*/*") for path in self.inputs.glob(f"{depth}/{pattern}")]


def run(command: list[str], gpu: int | None = None) -> int:
    """Run a command on one GPU and return its exit code."""
    environment = dict(os.environ)
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, env=environment, check=False).returncode


def gpus() -> int:
    """How many GPUs there are."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def on_all(tasks: list[list[str]], deadline: float, count: int) -> list[int | None]:
    """Run tasks, each on a GPU of its own, as GPUs come free; exit codes, None for those that found no time."""
    codes: list[int | None] = [None] * len(tasks)
    waiting = list(range(len(tasks)))
    lock = threading.Lock()

    def work(gpu: int | None) -> None:
        while True:
            with lock:
                minutes = (deadline - time.monotonic()) / 60
                if not waiting or minutes < 1:
                    return
                number = waiting.pop(0)
            codes[number] = run([*tasks[number], "--minutes", f"{minutes:.1f}"], gpu)

    threads = [threading.Thread(target=work, args=(gpu if count else None,)) for gpu in range(max(count, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def stage(name: str, settings: dict, data: Path, *more: str) -> list[str]:
    """The command line of one of the pipeline's scripts."""
    command = [sys.executable, "-m", f"scripts.{name}", "--competition", settings["competition"], "--data", str(data)]
    return [*command, *more]


def halves(settings: dict, data: Path, count: int) -> list[Path]:
    """The data folder once for each GPU, with a share of the images that are to be predicted; by links."""
    from pipeline.competition import load_competition
    from pipeline.data.mask_csv import read_mask_csv, write_mask_csv

    chosen = load_competition(settings["competition"])
    sample = chosen.csv.sample
    if count < 2 or sample is None or not (data / sample).exists():
        return [data]
    rows = [(row.id, row.rle) for row in read_mask_csv(data / sample)]
    folders = []
    for number in range(count):
        folder = data.with_name(f"{data.name}{number}")
        folder.mkdir(exist_ok=True)
        for path in data.iterdir():
            if path.name != sample and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
        write_mask_csv(folder / sample, chosen.csv.columns, rows[number::count])
        folders.append(folder)
    return folders


def join(settings: dict, parts: list[Path], out: Path) -> None:
    """One submission from its parts, and how it was made."""
    from pipeline.competition import load_competition
    from pipeline.data.mask_csv import read_mask_csv, write_mask_csv

    columns = load_competition(settings["competition"]).csv.columns
    if parts != [out]:
        write_mask_csv(out, columns, ((row.id, row.rle) for part in parts for row in read_mask_csv(part, columns)))
    notes = [Path(str(path).removesuffix(".csv.gz") + ".json") for path in [*parts, out]]
    facts = json.loads(notes[0].read_text())
    facts["commit"] = facts.get("commit") or settings["commit"]
    notes[-1].write_text(json.dumps(facts, indent=1) + "\n")
    for path in {*parts, *notes} - {out, notes[-1]}:
        path.unlink()


def train(settings: dict, data: Path, deadline: float, count: int) -> bool:
    """Train the folds that are not trained yet; whether all of them are now."""
    folder = Path("runs") / settings["name"]
    folds = [fold for fold in settings["folds"] if not (folder / f"fold{fold}" / "weights.safetensors").exists()]
    tasks = [stage("train", settings, data, "--recipe", settings["recipe"], "--fold", str(fold)) for fold in folds]
    codes = on_all(tasks, deadline, count)
    failed = [fold for fold, code in zip(folds, codes, strict=True) if code not in (0, STOPPED, None)]
    if failed:
        print(f"folds {failed} failed; their last words are above", flush=True)
    return all(code == 0 for code in codes)


def predict(settings: dict, data: Path, deadline: float, count: int) -> bool:
    """Evaluate, then predict the test set, a share of it on each GPU; whether the submission is there and good."""
    folder, out = Path("runs") / settings["name"], Path("submissions") / f"{settings['name']}.csv.gz"
    common = ["--recipe", settings["recipe"], "--fold", " ".join(map(str, settings["folds"]))]
    if not (folder / "evaluation.json").exists():
        run(stage("evaluate", settings, data, *common), gpu=0 if count else None)
    views = halves(settings, data, count)
    parts = [out.with_name(f"part{number}-{out.name}") for number in range(len(views))] if len(views) > 1 else [out]
    tasks = [
        stage("predict", settings, view, *common, "--out", str(part))
        for view, part in zip(views, parts, strict=True)
        if not part.exists()
    ]
    if not all(code == 0 for code in on_all(tasks, deadline, count)):
        return False
    join(settings, parts, out)
    return run(stage("check_submission", settings, data, str(out))) == 0


def main(machine: Machine | None = None) -> None:
    """Train, evaluate, predict; when the time is up, stop with all state in the output.

    A failure ends with exit code 0 as well once there is something to go on from: Kaggle hands on the output of a
    version only if it succeeded.
    """
    deadline = time.monotonic() + 60 * json.loads(SETTINGS)["minutes"]
    machine, settings = machine or Machine(), json.loads(SETTINGS)
    machine.unpack()
    machine.add_missing_packages()
    machine.resume(settings["name"])
    sys.path.insert(0, str(machine.source))
    from pipeline.competition import load_competition
    from pipeline.kaggle.kernel.attach import find_competition_folder, link_competition_files

    chosen = load_competition(settings["competition"])
    link_competition_files(chosen, find_competition_folder(chosen, machine.inputs), machine.data)
    if not Path(f"folds/{settings['competition']}.csv").exists():
        run(stage("folds", settings, machine.data))
    count = gpus()
    if train(settings, machine.data, deadline, count) and predict(settings, machine.data, deadline, count):
        print(f"submissions/{settings['name']}.csv.gz is in the output of this version", flush=True)
        return
    machine.show_hidden()
    print("not finished: push the next version with RESUME=1, it goes on from this one's output", flush=True)
    if not any(Path("runs").glob("*/fold*/checkpoint.pt")) and not any(
        Path("runs").glob("*/fold*/weights.safetensors")
    ):
        sys.exit("nothing was trained; the reason is above")


if __name__ == "__main__":
    main()
