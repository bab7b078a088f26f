"""A hook is blamed for its own time: not for a crowded interpreter or a crowded machine."""

import math
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llmspell_otel.hooks import Component, Hook, HookContext, delays, registration
from llmspell_otel.hooks.breaker import BreakerProfile, BreakerState
from llmspell_otel.hooks.engine import fire
from llmspell_otel.hooks.registry import registry

POINT = "custom:delayed"
TOUCHY = BreakerProfile(slow_call_threshold=1, slow_call_duration=0.02)


@pytest.fixture(autouse=True)
def nobody_registered() -> Iterator[None]:
    """Take out what a test registered."""
    yield
    registry.clear()


@contextmanager
def a_crowd(size: int) -> Generator[None]:
    """Threads that want the interpreter all the time."""
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            sum(range(200))

    threads = [threading.Thread(target=busy, daemon=True) for _ in range(size)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def asked() -> None:
    """Fire once."""
    slot = registry.slot(POINT)
    fire(slot, HookContext(slot.point, Component("custom", "delayed"), {}))


def sleeps(_context: object) -> None:
    """Keep the caller waiting."""
    time.sleep(0.04)


def computes(_context: object) -> None:
    """Take processor time of the caller's thread."""
    until = time.thread_time() + 0.04
    while time.thread_time() < until:
        pass


# The other worker, and whatever else the machine does, crowd the processor too.
@pytest.mark.flaky(reruns=2, reruns_delay=1)
def test_an_innocent_hook_stays_in_a_crowded_process() -> None:
    """It does nothing; that it loses the interpreter for 40 ms at a time is not its doing."""
    hook = Hook.register(POINT, lambda context: None, breaker=TOUCHY)
    with a_crowd(8):
        until, hits = time.monotonic() + 20, 0
        while hits < 3 and time.monotonic() < until:
            began = time.perf_counter()
            asked()
            hits += time.perf_counter() - began >= TOUCHY.slow_call_duration
    assert hits == 3
    assert hook.breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("drags", [sleeps, computes])
def test_a_guilty_one_is_found_in_a_crowded_process(drags: Any) -> None:
    """A call or two later than in a quiet one: it cannot always have been the others."""
    hook = Hook.register(POINT, drags, breaker=TOUCHY)
    with a_crowd(4):
        for _ in range(3):
            asked()
    assert hook.breaker.state is BreakerState.OPEN
    assert hook.calls <= 3


@pytest.mark.parametrize("drags", [sleeps, computes])
def test_a_guilty_one_is_found_within_the_call_where_nothing_else_runs(drags: Any) -> None:
    """The fault of nobody else: its first slow call counts, if the thread had its processor."""
    for _ in range(20):  # the machine of a test is not always quiet
        hook = Hook.register(POINT, drags, breaker=TOUCHY)
        asked()
        if hook.breaker.state is BreakerState.OPEN:
            return
        registry.clear()
    pytest.fail("never found at once")


def test_time_without_a_processor_is_not_the_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says the thread waited in its queue is taken off, once in 32 calls."""
    waited = [0]
    monkeypatch.setattr(delays, "_run_delay", lambda: waited[0])
    delays.foreign(0.0)

    def preempted(context: Any) -> None:
        time.sleep(0.03)
        waited[0] += 30_000_000

    hook = Hook.register(POINT, preempted, breaker=TOUCHY)
    asked()
    assert hook.breaker.state is BreakerState.CLOSED
    asked()
    assert hook.breaker.state is BreakerState.OPEN


def test_a_look_that_came_too_late_bounds_nothing() -> None:
    """Before it, anything may have happened."""
    began = time.perf_counter()
    delays.foreign(began)
    assert delays.foreign(began) == float("inf")


def test_systems_without_books_blame_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell, waiting for a processor counts as the hook's time."""

    def refused(*_: Any) -> Any:
        raise OSError("no such file")

    monkeypatch.setattr("builtins.open", refused)
    delays.foreign(0.0)
    assert delays.foreign(time.perf_counter()) < 0.02


PROBED = BreakerProfile(success_threshold=1, open_duration=0.001, slow_call_duration=0.02)


@pytest.mark.parametrize(
    ("waited", "state"), [(0.0, BreakerState.HALF_OPEN), (math.inf, BreakerState.CLOSED)]
)
def test_a_probe_is_judged_by_the_hooks_own_time(
    monkeypatch: pytest.MonkeyPatch, waited: float, state: BreakerState
) -> None:
    """A slow probe is no success, unless it may have been others who made it slow."""
    hook = Hook.register(POINT, sleeps, breaker=PROBED)
    hook.breaker.trip("to be probed")
    time.sleep(0.002)
    monkeypatch.setattr(registration, "foreign", lambda began, *, suspended: waited)
    asked()
    assert hook.breaker.state is state
