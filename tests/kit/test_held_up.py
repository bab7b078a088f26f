"""The watch that the bounds of calls are held against: what it counts, and what it takes off."""

import os
import subprocess
import sys
import time

from tests.kit.held_up import held_up


def computing(seconds: float) -> None:
    """Use a processor for so many seconds of this thread's own."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_sleep_and_work_count_in_full() -> None:
    """Whoever waits for a lock, a disk or a network sleeps."""
    assert 0.1 <= held_up(lambda: time.sleep(0.1)) < 0.2
    assert 0.1 <= held_up(lambda: computing(0.1)) < 0.2


def test_a_crowded_machine_is_taken_off() -> None:
    """Four others on the same processor: it takes five times as long, and none of it counts."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(own)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        time.sleep(0.3)
        began = time.monotonic()
        held = held_up(lambda: computing(0.2))
        taken = time.monotonic() - began
    finally:
        for other in others:
            other.kill()
            other.wait()
        os.sched_setaffinity(0, own)
    assert held < 0.3 < taken
