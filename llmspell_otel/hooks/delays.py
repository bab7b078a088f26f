"""How long a thread may have waited for others: what a slow call is not blamed for.

Asked only when a call looked slow, so that a call that was fast pays for none of it.
"""

import math
import os
import threading
import time
from typing import Final

_REFRESH: Final = 1.0
"""Seconds after which a mark is worth taking anew."""


class _Mark(threading.local):
    """What this thread's books said when they were last looked at; at first, at its birth."""

    taken = 0.0
    delay = processes = threads = 0


_mark: Final = _Mark()


def _forget() -> None:
    _mark.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # the child's books begin anew


def refresh(now: float) -> None:
    """Look at the thread's books, unless that was done within the last second.

    Args:
        now: Seconds of `time.perf_counter`.
    """
    if now - _mark.taken >= _REFRESH:
        take(now)


def foreign(began: float, *, suspended: bool = False) -> float:
    """The most that the thread can have waited for others since *began*, in seconds.

    That is the time it was ready to run and had no processor (Linux tells), and the processor
    time of the process's other threads, any of which may have kept the interpreter to itself.
    Both are known since the last look only, which makes this a bound: without end if the look
    came after *began*.

    Args:
        began: Seconds of `time.perf_counter`.
        suspended: Whether other tasks of the thread had their turn meanwhile.
    """
    taken, delay = _mark.taken, _mark.delay
    processes, threads = _mark.processes, _mark.threads
    take(time.perf_counter())
    if taken > began:
        return math.inf
    others = _mark.processes - processes
    if not suspended:
        others -= _mark.threads - threads
    return (_mark.delay - delay + max(0, others)) / 1e9


def take(now: float) -> None:
    """Look at the thread's books, at *now* seconds of `time.perf_counter`."""
    _mark.taken = now
    _mark.delay = _run_delay()
    _mark.processes = time.process_time_ns()
    _mark.threads = time.thread_time_ns()


def _run_delay() -> int:
    """Nanoseconds that the thread was ready to run and waited for a processor; 0 if unknown."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as books:  # noqa: PTH123 - quicker
            return int(books.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
