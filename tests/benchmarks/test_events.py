"""The event benchmark runs, and its cases do what they say; nothing here depends on speed."""

import pytest

from tests.benchmarks import events, soak


@pytest.mark.benchmark_report
def test_every_case_runs() -> None:
    """Each case works, and each path loses nothing."""
    for case in events.cases().values():
        events.measure(case, 10)
    for publish in (
        events.inline_rate,
        events.producers,
        events.across_threads,
        events.to_a_task,
        events.into_the_log("process"),
        events.into_the_log("power"),
        events.into_the_database,
    ):
        publish(400)
    for run in (soak.names, soak.events):
        assert [published for published, _ in run(1_000)][-1] == 1_000
