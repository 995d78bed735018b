"""Disturb a command, judge how it ended, repeat it and compare the result."""

import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.processes import Command, Ending
from tests.torture.stages import Stage, fill_working_folder

SURVIVAL_S = 10.0
"""Seconds in which every process of a stopped command must end."""
DISK_MB = 400
"""Size of the disk that is filled. A download wants 200 MB to spare."""


@dataclass
class Verdict:
    """The outcome of one disturbance."""

    code: int | None
    faults: list[str] = field(default_factory=list)
    """Empty if the stage survived."""
    text: str = ""
    """Output of the disturbed command, and of the repeated one if it failed."""


class Bench:
    """Run one stage again and again, each time in a fresh working folder.

    Args:
        stage: the stage.
        world: the folder with its inputs.
        scratch: where the working folders go.
        fork: see `Command`.
    """

    def __init__(self, stage: Stage, world: Path, scratch: Path, *, fork: bool = False) -> None:
        self.stage, self.world, self.scratch, self.fork = stage, world, scratch, fork
        with self._working_folder() as folder:
            ending = self._finish(folder)
            assert ending.code == 0, ending.text
            self.seconds = ending.seconds
            self.expected = stage.read_result(folder)

    def disturb(self, kind: str, moment: float) -> Verdict:
        """Disturb the stage once.

        Args:
            kind: a key of `KINDS`.
            moment: when, in seconds after the start.
        """
        with self._working_folder(disk=kind == "full disk") as folder:
            command = self.start(folder)
            try:
                command.wait(moment)
                verdict = KINDS[kind](self, command, folder)
                if command.survivors(SURVIVAL_S):
                    verdict.faults.append(f"processes {command.members()} survive")
            finally:
                command.close()
            if "Traceback" in verdict.text:
                verdict.faults.append("traceback")
            ending = self._finish(folder)
            if ending.code:
                verdict.faults.append(f"repeated: exit code {ending.code}")
                verdict.text += f"\n--- repeated ---\n{ending.text}"
                return verdict
            result = self.stage.read_result(folder)
            changed = [key for key in {*result, *self.expected} if result.get(key) != self.expected.get(key)]
            verdict.faults += [f"differs: {key}" for key in sorted(changed)]
            return verdict

    def start(self, folder: Path) -> Command:
        """Start the stage's command."""
        return Command(self.stage.arguments, folder, self.stage.environment, fork=self.fork)

    def _finish(self, folder: Path) -> Ending:
        command = self.start(folder)
        ending = command.wait()
        command.close()
        return ending or Ending(-1, "did not end in time", 0)

    @contextmanager
    def _working_folder(self, *, disk: bool = False) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        mounted = disk and mount_disk(folder)
        try:
            fill_working_folder(folder, self.world, self.stage)
            yield folder
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(folder)], check=True)
            shutil.rmtree(folder)


def mount_disk(folder: Path) -> bool:
    """Mount a small disk in memory; return False where that is not permitted."""
    if os.geteuid():
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def _stop(number: int, *codes: int, group: bool = False) -> "Kind":
    """Send a signal. A command that has finished before it may exit with 0."""

    def disturb(_: Bench, command: Command, __: Path) -> Verdict:
        command.signal(number, group=group)
        return _judge(command.wait(), -number, 0, *codes)

    return disturb


def _fill_disk(_: Bench, command: Command, folder: Path) -> Verdict:
    filler = folder / "filler"
    if folder.is_mount():
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
    else:
        # Without the right to mount: every write of the running processes fails as if the disk could take no more.
        for process in command.members():
            resource.prlimit(process, resource.RLIMIT_FSIZE, (0, 0))
    verdict = _judge(command.wait(), 0, 1)
    filler.unlink(missing_ok=True)
    if verdict.code == 1:
        verdict.faults += _require_sentence(verdict.text, folder)
    return verdict


def _start_second(bench: Bench, command: Command, folder: Path) -> Verdict:
    second = bench.start(folder)
    try:
        verdicts = [_judge(each.wait(), 0, 1) for each in (command, second)]
        verdict = Verdict(verdicts[0].code, [fault for each in verdicts for fault in each.faults])
        for each in verdicts:
            verdict.text += f"--- exit code {each.code} ---\n{each.text}\n"
            if each.code == 1:
                verdict.faults += _require_sentence(each.text, folder)
        if not any(each.code == 0 for each in verdicts):
            verdict.faults.append("neither finished")
        if second.survivors(SURVIVAL_S):
            verdict.faults.append(f"processes {second.members()} of the second survive")
        return verdict
    finally:
        second.close()


def _judge(ending: Ending | None, *codes: int) -> Verdict:
    if ending is None:
        return Verdict(None, ["did not end in time"])
    faults = [] if ending.code in codes else [f"exit code {ending.code}"]
    return Verdict(ending.code, faults, ending.text)


def _require_sentence(text: str, folder: Path) -> list[str]:
    """Require one line ``error: <path>: <what>`` about a file of the working folder."""
    errors = re.findall(r"^error: (\S+): .+$", text, re.MULTILINE)
    if len(errors) != 1 or text.count("error:") != 1:
        return [f"{text.count('error:')} error messages instead of one that names a path"]
    if not (folder / errors[0]).absolute().is_relative_to(folder) or not (folder / errors[0]).parent.exists():
        return [f"{errors[0]} is not a path of the working folder"]
    return []


Kind = Callable[[Bench, Command, Path], Verdict]

KINDS: dict[str, Kind] = {
    "SIGKILL": _stop(signal.SIGKILL),
    # The shell shows 143 and 130 for a process that the signal ended, too.
    "SIGTERM": _stop(signal.SIGTERM, 143),
    "SIGTERM to group": _stop(signal.SIGTERM, 143, group=True),
    "SIGINT to group": _stop(signal.SIGINT, 130, group=True),
    "full disk": _fill_disk,
    "second copy": _start_second,
}


def describe_full_disk(scratch: Path) -> str:
    """Say how a full disk is made on this machine."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        mounted = mount_disk(Path(folder))
        if mounted:
            subprocess.run(["umount", folder], check=True)
    return f"a tmpfs of {DISK_MB} MB" if mounted else "RLIMIT_FSIZE, because mounting is not permitted"
