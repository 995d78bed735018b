"""Run the stages of the pipeline in a Kaggle kernel, on all its GPUs, until the time is up.

A training kernel trains, evaluates and predicts; an inference kernel predicts with the weights of a dataset.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.competition import load_competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.row_format import submission_format
from pipeline.data.samples import load_submission_samples, read_submission_keys
from pipeline.files import fingerprint_file
from pipeline.host import count_gpus
from pipeline.kaggle.kernel.attach import find_competition_folder, link_competition_files, link_mounted_data
from pipeline.kaggle.kernel.previous_version import restore_output, show_hidden_files
from pipeline.kaggle.kernel.shards import join_submissions, shard_path, split_test_images
from pipeline.kaggle.kernel.weights_dataset import restore_weights
from pipeline.stages import Stage, folds_stage, result_stages, train_stage

log = logging.getLogger(__name__)

NOTEBOOK_SUBMISSION = "submission.csv"
"""The file that Kaggle scores in the output of a notebook."""
STOPPED = 3
"""Exit code of a stage that has run out of time and saved its state."""


@dataclass(frozen=True)
class KernelSettings:
    """Settings of a kernel."""

    competition: str
    recipe: str
    folds: list[int]
    minutes: float
    """Time limit of the kernel."""
    commit: str
    """The commit that the pipeline was packed from; there is no repository in a kernel."""
    predict: bool = False
    """Whether the kernel only predicts, with the weights of an attached dataset."""


@dataclass(frozen=True)
class StageRunner:
    """Run stages with the same settings, deadline and GPUs."""

    settings: KernelSettings
    deadline: float
    """In seconds of `time.monotonic`."""
    gpus: int

    def command(self, stage: Stage, data: Path, *options: str) -> list[str]:
        """Return the command line of a stage."""
        common = ["--competition", self.settings.competition, "--data", str(data)]
        return [sys.executable, "-m", f"scripts.{stage.script}", *common, *stage.options, *options]

    def train(self, data: Path) -> bool:
        """Train all folds; return whether they are trained.

        Folds that the previous version has trained end at once, unless their recipe, images or masks have changed.
        """
        competition, recipe = self.settings.competition, self.settings.recipe
        stages = [train_stage(competition, recipe, fold) for fold in self.settings.folds]
        finished = [stage for stage in stages if stage.target.exists()]
        left = [stage for stage in stages if stage not in finished]
        before = [fingerprint_file(stage.target) for stage in finished]
        trained = self._train_folds(finished, data)
        trained = trained and (self._train_on_all_gpus(left, data) or self._train_folds(left, data))
        now = [fingerprint_file(stage.target) for stage in stages if stage.target.exists()]
        if now != before:
            evaluation, submission = result_stages(competition, recipe, self.settings.folds)
            parts = submission.target.parent.glob(f"part*-{submission.target.name}")
            for path in (evaluation.target, submission.target, *parts):
                path.unlink(missing_ok=True)  # of other weights
        return trained

    def _train_folds(self, stages: Sequence[Stage], data: Path) -> bool:
        """Train folds side by side; return whether all are trained."""
        codes = run_on_gpus([self.command(stage, data) for stage in stages], self.deadline, self.gpus)
        for stage, code in zip(stages, codes, strict=True):
            if code not in (0, STOPPED, None):
                log.error("%s: failed; the reason is above", stage.target)
        return all(code == 0 for code in codes)

    def _train_on_all_gpus(self, left: Sequence[Stage], data: Path) -> bool:
        """Train the only fold that is left on all GPUs; return whether it is trained.

        A training that has stopped or failed, such as with a batch that the GPUs cannot share, goes on as one process
        on one GPU.
        """
        minutes = (self.deadline - time.monotonic()) / 60
        if self.gpus < 2 or len(left) != 1 or minutes < 1:
            return False
        _, *module = self.command(left[0], data, "--minutes", f"{minutes:.1f}")
        processes = ("--standalone", "--nproc-per-node", str(self.gpus))
        return run_command([sys.executable, "-m", "torch.distributed.run", *processes, *module]) == 0

    def predict(self, data: Path) -> bool:
        """Evaluate, predict a part of the test set on each GPU, join the parts; return whether the result is valid."""
        competition, folds = load_competition(self.settings.competition), self.settings.folds
        evaluation, submission = result_stages(competition.name, self.settings.recipe, folds)
        folds_option = ("--folds", " ".join(map(str, folds)))
        if not evaluation.target.exists() and not self.settings.predict:
            run_command(self.command(evaluation, data, *folds_option), gpu=0 if self.gpus else None)
        # Nobody can replace an image while the kernel runs.
        options = (*folds_option, "--best-effort" if self.settings.predict else "--allow-broken")
        shards = split_test_images(competition, data, self.gpus)
        parts = [shard_path(submission.target, number, len(shards)) for number in range(len(shards))]
        commands = [
            self.command(submission, shard, *options, "--out", str(part))
            for shard, part in zip(shards, parts, strict=True)
            if not part.exists()
        ]
        codes = run_on_gpus(commands, self.deadline, self.gpus)
        failed = [command for command, code in zip(commands, codes, strict=True) if code not in (0, STOPPED, None)]
        # Those that failed resume one after the other: together they may have been too much for the memory.
        codes = [code for code in codes if code in (0, STOPPED, None)]
        codes += run_on_gpus(failed, self.deadline, min(self.gpus, 1))
        if not all(code == 0 for code in codes):
            return False
        join_submissions(competition, data, parts, submission.target, self.settings.commit)
        if self.settings.predict:  # checked part by part, and written in any case
            filled = json.loads(paths.submission_metadata(submission.target).read_text(encoding="utf-8"))["filled"]
            return len(filled) < len(load_submission_samples(competition, data))
        check = Stage("check_submission", submission.target, (submission.target,), (str(submission.target),))
        return run_command(self.command(check, data)) == 0


def run_kernel(settings: KernelSettings, inputs: Path, output: Path, data: Path, deadline: float) -> bool:
    """Attach the competition, restore the previous version's output, train, evaluate and predict.

    Args:
        settings: what to run.
        inputs: the folder of all inputs.
        output: the folder of this version's output.
        data: the data folder to fill with links.
        deadline: when to stop, in seconds of `time.monotonic`.

    Returns:
        False if there is no submission and no trained or partly trained fold either.
    """
    runs = paths.runs_folder(settings.competition, settings.recipe)
    restore_output(inputs, output, [runs, paths.SUBMISSIONS, paths.FOLDS])
    competition = load_competition(settings.competition)
    if competition.download:
        link_competition_files(competition, find_competition_folder(competition, inputs), data)
    else:
        link_mounted_data(competition, inputs, data)
    runner = StageRunner(settings, deadline, count_gpus())
    split = folds_stage(settings.competition)
    if not split.target.exists():
        run_command(runner.command(split, data))
    if runner.train(data) and runner.predict(data):
        log.info("%s: is in the output of this version", paths.submission_csv(settings.competition, settings.recipe))
        return True
    show_hidden_files(output)
    log.info("not finished: push the next version with RESUME=1; it resumes from this version's output")
    trained = [paths.fold_run(runs, fold) for fold in settings.folds]
    stages = [stage for run in trained for stage in (run, run.coarse)]
    return any(stage.checkpoint.exists() or stage.weights.exists() for stage in stages)


def run_prediction(settings: KernelSettings, inputs: Path, output: Path, data: Path, deadline: float) -> bool:
    """Predict the mounted test set, whatever its size, and write ``submission.csv``, as code competitions ask for.

    Args:
        settings: what to run.
        inputs: the folder of all inputs: the competition, and the dataset with the weights.
        output: the folder of this version's output.
        data: the data folder to fill with links.
        deadline: when to stop, in seconds of `time.monotonic`. Masks that are not predicted by then stay empty.

    Returns:
        Whether the file was written, with a predicted mask of at least one image: empty masks for all, as without a
        package that reads the images, would use up a submission.
    """
    restore_weights(inputs)
    competition = load_competition(settings.competition)
    link_mounted_data(competition, inputs, data)
    predicted = paths.submission_csv(settings.competition, settings.recipe)
    if read_submission_keys(competition, data) == []:
        # The whole test set is hidden. Kaggle scores only versions that have succeeded before on what is visible.
        log.info("%s: names no image; the rows are written when Kaggle scores this version", competition.csv.sample)
        predicted = data / str(competition.csv.sample)
    elif not StageRunner(settings, deadline, count_gpus()).predict(data):
        return False
    format = submission_format(competition)
    rows = ((row.id, row.class_index, row.rle) for row in read_mask_csv(predicted, format))
    write_mask_csv(output / NOTEBOOK_SUBMISSION, format, rows)
    log.info("%s: written", output / NOTEBOOK_SUBMISSION)
    return True


def run_command(command: Sequence[str], gpu: int | None = None) -> int:
    """Run a command, on one GPU if `gpu` is given, and return its exit code."""
    environment = dict(os.environ)
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
    log.info("$ %s", " ".join(command))
    return subprocess.run(command, env=environment, check=False).returncode


def run_on_gpus(commands: Sequence[Sequence[str]], deadline: float, gpus: int) -> list[int | None]:
    """Run commands in parallel, one per GPU, each with ``--minutes`` and the time that is left.

    Args:
        commands: command lines of stages that take ``--minutes``.
        deadline: in seconds of `time.monotonic`. Nothing is started in the last minute.
        gpus: number of GPUs; with 0 the commands run one after the other.

    Returns:
        The exit code of each command, or None if it was not started.
    """
    codes: list[int | None] = [None] * len(commands)
    waiting = list(range(len(commands)))
    lock = threading.Lock()

    def work(gpu: int | None) -> None:
        while True:
            with lock:
                minutes = (deadline - time.monotonic()) / 60
                if not waiting or minutes < 1:
                    return
                number = waiting.pop(0)
            codes[number] = run_command([*commands[number], "--minutes", f"{minutes:.1f}"], gpu)

    threads = [threading.Thread(target=work, args=(gpu if gpus else None,)) for gpu in range(max(gpus, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes
