"""Fuzz one reader, guided by coverage: ``python -m tests.fuzz rle 10`` runs for ten minutes.

The target is the module of that name: ``SEEDS`` are valid inputs, and ``check`` must return for any bytes. An exception
that `check` lets through, an input that takes 20 seconds, or a process of more than a gigabyte ends the run with exit code 77,
70 or 71 and saves the input as ``.fuzz/<target>-*``. Inputs that reach new code are kept in ``.fuzz/<target>/``.

A process fuzzes for at most two minutes, then the next one takes over the inputs: the fuzzer's own memory grows by 140 bytes
per input, which for the fastest targets would reach the limit within minutes.
"""

import hashlib
import importlib
import os
import sys
import time
from pathlib import Path

import atheris

from tests.fuzz import TARGETS

FOLDER = Path(".fuzz")
TIMEOUT_S = 20
MEMORY_MB = 1024
PROCESS_S = 120
INSTRUMENTED = ["pipeline", "PIL", "tomllib", "zipfile", "csv"]


def main() -> None:
    """Run the target that is named first for the minutes that are named second, or 10."""
    target, minutes = sys.argv[1], sys.argv[2] or "10"
    if target not in TARGETS:
        sys.exit(f"error: TARGET={target}: no such target; there is {' '.join(TARGETS)}")
    if not minutes.isdecimal() or int(minutes) < 1:
        sys.exit(f"error: MINUTES={minutes}: is not a number of minutes")
    with atheris.instrument_imports(include=INSTRUMENTED):
        module = importlib.import_module(f"tests.fuzz.{target}")
    corpus = FOLDER / target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in module.SEEDS:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    options = {
        "timeout": TIMEOUT_S,
        "rss_limit_mb": MEMORY_MB,
        "max_len": max(4096, 2 * max(map(len, module.SEEDS))),
        "artifact_prefix": f"{FOLDER}/{target}-",
        "print_final_stats": 1,
    }
    end = time.monotonic() + 60 * int(minutes)
    while (left := end - time.monotonic()) > 1:
        if not (child := os.fork()):
            options["max_total_time"] = int(min(left, PROCESS_S))
            flags = [f"-{key}={value}" for key, value in options.items()]
            atheris.Setup([sys.argv[0], *flags, str(corpus)], module.check)
            atheris.Fuzz()  # ends the process
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(code)


if __name__ == "__main__":
    main()
