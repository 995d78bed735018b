"""Resources of this process: processor cores and memory, inside containers too; and the commit it runs from."""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

# Limit and usage of a container's memory, in control groups of version 2 and 1.
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Return the model of the processor, such as ``AMD EPYC 7B13``; where it is unknown, the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()


def count_gpus() -> int:
    """Return the number of GPUs that nvidia-smi lists."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def available_memory() -> int:
    """Return the bytes of memory that are free for this process; 0 if unknown."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
        for limit, used in _LIMITS:
            if limit.exists() and (text := limit.read_text().strip()) != "max":
                # The page cache counts as used, but the kernel frees it on demand.
                rows = dict(line.split() for line in used.with_name("memory.stat").read_text().splitlines())
                free = min(free, int(text) - int(used.read_text()) + int(rows["inactive_file"]))
        return max(free, 0)
    except (OSError, KeyError, ValueError):
        return 0


def keep_freed_memory() -> None:
    """Let the allocator of this process keep what is freed, instead of returning it to the kernel.

    By default the GNU C library returns every freed array above 32 MiB at once, and smaller ones often, and the next
    one costs a page fault per 4 KiB; a network on a CPU allocates its activations anew in each step. Does nothing with
    other C libraries.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
            library.mallopt(option, value)


def git_commit() -> str:
    """Return the checked-out commit, with a "+" if files have changed since; empty outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
