"""What this process uses: memory, processor time. Reading costs microseconds, needs nothing.

With psutil installed the numbers are read on every platform, without it on Linux.
"""

import os
import time
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")
_CGROUP: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes() -> int:
    """The resident memory of the process in bytes; 0 where it cannot be read."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, AttributeError):
        return _memory_elsewhere()


def _memory_elsewhere() -> int:
    try:
        psutil = import_module("psutil")
    except ImportError:
        return 0
    return int(psutil.Process().memory_info().rss)


@lru_cache(maxsize=1)
def memory_limit() -> int:
    """The bytes that the process may use: its control group's limit, or the machine's memory."""
    for path in _CGROUP:
        try:
            text = path.read_text("ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _machine():
            return int(text)
    return _machine()


@lru_cache(maxsize=1)
def _machine() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def cpu_seconds() -> float:
    """Processor time of the whole process so far, in seconds."""
    return time.process_time()


def processors() -> int:
    """How many processors the process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
