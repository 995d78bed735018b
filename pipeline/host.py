"""What this process may use of the machine it runs on; in a container that can be less than the machine has."""

import os
from pathlib import Path

# Where a container's limit and use stand, in control groups of version 2 and 1.
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that are free for this process; 0 where the system does not tell."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
        for limit, used in _LIMITS:
            if limit.exists() and (text := limit.read_text().strip()) != "max":
                # Files that were read lately count as used, but make room when it is needed.
                rows = dict(line.split() for line in used.with_name("memory.stat").read_text().splitlines())
                free = min(free, int(text) - int(used.read_text()) + int(rows["inactive_file"]))
        return max(free, 0)
    except (OSError, KeyError, ValueError):
        return 0
