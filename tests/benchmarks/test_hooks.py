"""The benchmark of hooks runs; what it measures gates nothing."""

import pytest

from llmspell_otel.hooks.registry import registry
from tests.benchmarks import hooks, hooks_instructions


def test_every_case_runs(caplog: pytest.LogCaptureFixture) -> None:
    """One short round: every case has a figure, and no hook is left."""
    measured = hooks.measured(rounds=1, times=3)
    assert {f"guard + fire, k={count}" for count in hooks.COUNTS} < set(measured)
    assert all(taken > 0 and ratio > 0 for taken, ratio in measured.values())
    assert registry.hooks() == []
    assert [each.message for each in caplog.records] == [
        "hook 'nothing': breaker closed -> open (by the benchmark)"
    ]


def test_registering_is_measured_with_hooks_there() -> None:
    """The figure is that of one more, and those that were there are counted in."""
    assert 0 < hooks.registrations(32) < 10_000
    assert len(registry.hooks()) == 32
    registry.clear()


def test_every_counted_case_is_one_of_the_benchmarks() -> None:
    """Neither Valgrind nor eventkit is needed to know that a case was renamed."""
    known = set(hooks.cases())
    registry.clear()
    assert {name for name in hooks_instructions.CASES if "eventkit" not in name} <= known
    assert hooks_instructions.BASE in known
