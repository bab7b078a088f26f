"""The resource monitor: one notice per crossing, a thread only while it is wanted."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from llmspell_otel import Event, Hook, resources
from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.registry import registry
from llmspell_otel.monitor import Monitor, defaults, monitor


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """No hooks, and the monitor as it was."""
    registry.clear()
    yield
    registry.clear()
    monitor.stop()
    monitor.interval, monitor.thresholds = 5.0, defaults()


def test_a_crossing_is_told_once_until_it_comes_down() -> None:
    """High, higher and in between are one crossing; low ends it."""
    told: list[Any] = []
    Hook.register("performance:threshold_exceeded", told.append)
    mine = Monitor()
    mine.thresholds = []
    values = iter([5, 11, 12, 9, 11, 8, 11])
    mine.watch("queue", lambda: next(values), high=10, low=8, unit="{item}")
    for _ in range(7):
        mine.look()
    assert [context.data["value"] for context in told] == [11, 11]
    assert told[0].data["limit"] == {"name": "queue", "limit": 10, "unit": "{item}"}


def test_the_points_of_memory_and_processor_fire() -> None:
    """Real readings of this process, against thresholds that it passes."""
    told: list[Any] = []
    Hook.register("MemoryUsageHigh", told.append)
    Hook.register("CpuUsageHigh", told.append)
    mine = Monitor()
    for threshold in mine.thresholds:
        threshold.high = threshold.low = 0.0
        threshold.patience = 1
    sum(range(200_000))
    mine.look()
    assert [context.point.name for context in told] == ["MemoryUsageHigh", "CpuUsageHigh"]
    assert 0 < told[0].data["value"] < 1
    assert 0 < told[1].data["value"] <= 1.1


def test_the_thread_runs_while_a_hook_is_there() -> None:
    """It starts with the first hook, tells within its interval, and ends with the last."""
    told: list[Any] = []
    assert not monitor.running
    monitor.interval = 0.01
    monitor.watch("one", lambda: 1.0, high=0.5, low=0.1)
    handle = Hook.register("PerformanceThresholdExceeded", told.append)
    deadline = time.monotonic() + 5
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told
    handle.unregister()
    assert not monitor.running


def test_started_by_hand_it_publishes_events() -> None:
    """Without any hook, for those who subscribe."""
    told: list[Any] = []
    monitor.interval = 0.01
    monitor.watch("one", lambda: 1.0, high=0.5, low=0.1)
    with Event.subscribe("performance.threshold_exceeded", told.append):
        monitor.start()
        deadline = time.monotonic() + 5
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told[0].data["limit"]["name"] == "one"


def test_a_reading_that_fails_is_contained() -> None:
    """The others are still read."""
    told: list[Any] = []
    Hook.register("PerformanceThresholdExceeded", told.append)
    mine = Monitor()
    mine.thresholds = []
    mine.watch("broken", lambda: 1 / 0, high=1, low=0)
    mine.watch("fine", lambda: 2, high=1, low=0)
    mine.look()
    assert [context.data["limit"]["name"] for context in told] == ["fine"]


def test_marks_the_wrong_way_round_are_refused() -> None:
    """With what to do about it."""
    with pytest.raises(SettingsError, match="give a low mark of 1 at most"):
        monitor.watch("odd", float, high=1, low=2)


def test_readings_are_real() -> None:
    """Memory grows with what is kept."""
    before = resources.memory_bytes()
    kept = bytearray(64 * 1024 * 1024)
    kept[::4096] = b"x" * len(kept[::4096])
    assert resources.memory_bytes() - before > 32 * 1024 * 1024
    assert resources.memory_limit() > resources.memory_bytes() > 0
    assert resources.processors() >= 1
