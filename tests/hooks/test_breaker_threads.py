"""The circuit breaker under many threads."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from llmspell_otel.hooks.breaker import NO_PROBE, Breaker, BreakerProfile
from tests.hooks.breaker_bench import HALF_OPEN, OPEN, Bench, Change


def together(threads: int, work: Callable[[], None]) -> None:
    """Run *work* in that many threads that start at one moment."""
    gate = threading.Barrier(threads)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            gate.wait(10)
            work()
        except BaseException as error:
            errors.append(error)

    pool = [threading.Thread(target=run) for _ in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join(30)
    assert not errors
    assert not any(thread.is_alive() for thread in pool)


@pytest.mark.parametrize("threads", [8, 64])
def test_threads_share_one_permit(threads: int) -> None:
    """However many ask at once, one probe is out; the refusals are counted exactly."""
    for _ in range(10):
        bench = Bench()
        bench.open()
        bench.clock.advance(15)
        permits: list[int] = []
        together(threads, lambda bench=bench, permits=permits: permits.append(bench.ask()))
        assert sum(permit > 0 for permit in permits) == 1
        assert bench.breaker.stats.total_refused == threads - 1
        assert bench.states == [OPEN, HALF_OPEN]


def test_probes_of_many_threads_never_overlap() -> None:
    """Threads that probe, succeed, fail and cancel at random never hold two permits."""
    profile = BreakerProfile(
        failure_threshold=1, success_threshold=1, open_duration=0.000_05, failure_window=60
    )
    lock = threading.Lock()
    changes: list[Change] = []
    breaker = Breaker(profile, on_change=lambda *change: changes.append(change))
    out = most = probes = 0
    deadline = time.monotonic() + 0.7

    def work() -> None:
        nonlocal out, most, probes
        turn = 0
        while time.monotonic() < deadline:
            permit = breaker.permit(time.monotonic_ns())
            if permit > 0:
                with lock:
                    out += 1
                    probes += 1
                    most = max(most, out)
                    out -= 1
                turn += 1
                if turn % 3 == 0:
                    breaker.release(permit)
                elif turn % 3 == 1:
                    breaker.failure(time.monotonic_ns(), 0, permit)
                else:
                    breaker.success(time.monotonic_ns(), permit)
            elif permit == NO_PROBE:
                breaker.failure(time.monotonic_ns(), 0, permit)

    together(8, work)
    assert probes > 10
    assert most == 1
    assert all(before[1] is after[0] for before, after in pairwise(changes)), "told out of order"
    assert changes[-1][1] is breaker.state


def test_concurrent_failures_are_all_counted() -> None:
    """No failure is lost between threads, and the breaker opens once."""
    bench = Bench(BreakerProfile(failure_threshold=8000))
    together(8, lambda: bench.fail(1000))
    assert bench.breaker.stats.total_failures == 8000
    assert bench.states == [OPEN]
