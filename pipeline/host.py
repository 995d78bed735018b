"""What this process may use of the machine it runs on; in a container that can be less than the machine has."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that are free for this process; 0 where the system does not tell."""
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
        limit = (_CGROUP / "memory.max").read_text().strip() if (_CGROUP / "memory.max").exists() else "max"
        if limit == "max":
            return free
        return min(free, int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, KeyError, ValueError):
        return 0
