"""The benchmark of operations runs; what it measures gates nothing."""

from tests.benchmarks import operations


def test_every_case_runs() -> None:
    """One short round: every case has a figure, and leaves nothing plugged in."""
    measured = operations.measure(rounds=1, times=3)
    assert len(measured) == 27
    assert all(taken > 0 and ratio > 0 for taken, ratio in measured.values())
    assert operations.ports.telemetry is None
