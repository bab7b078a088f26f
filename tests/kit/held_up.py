"""How long a call held its caller up, whatever else the machine was busy with."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def held_up(call: Callable[[], object]) -> float:
    """Seconds that *call* took, less those in which the process wanted a processor and had none.

    Of all its threads, since any of them may have had the interpreter, or a lock, when another
    program took its turn. Time that a thread slept or computed is never taken off.
    """
    waited, began = _waited(), time.monotonic()
    call()
    taken = time.monotonic() - began
    return taken - max(_waited() - waited, 0.0)


def _waited() -> float:
    """Seconds that the threads of this process were ready to run and waited for a processor."""
    nanoseconds = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # ended meanwhile
            nanoseconds += int((task / "schedstat").read_bytes().split()[1])
    return nanoseconds / 1e9
