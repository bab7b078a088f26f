"""The metrics hook: a switch over instruments, and counts in the process."""

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics

from llmspell_otel import Hook, tool
from llmspell_otel.builtin.metrics import DURATION, OTHER, MetricsSettings, snapshot
from llmspell_otel.errors import SettingsError
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.pipeline import Telemetry
from tests.telemetry.support import Signals

PAGE = Path(__file__).parents[2] / "docs/how-to/builtin-metrics.md"


@tool
def divide(one: float, other: float) -> float:
    """Divide."""
    return one / other


def test_operations_are_counted_by_point_and_component() -> None:
    """Counts, errors, durations; nothing once it is off."""
    Hook.enable_builtin("metrics", percentiles="50,100")
    for other in (1, 2, 0):
        try:
            divide(1, other)
        except ZeroDivisionError:
            continue
    counted = snapshot()["tool:divide"]
    assert (counted["operations"], counted["errors"]) == (3, 1)
    assert counted["points"]["tool:before_execution"] == 3
    assert counted["points"]["tool:error"] == 1
    seconds = counted["seconds"]
    assert 0 < seconds["p50"] <= seconds["p100"] == seconds["max"] < 5
    Hook.disable_builtin("metrics")
    assert snapshot() == {}


def test_the_same_numbers_leave_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot, the conventions' histogram and the one of every kind agree."""
    signals = Signals()
    telemetry = Telemetry(signals.providers)
    monkeypatch.setattr(ports, "telemetry", telemetry)
    monkeypatch.setattr(metrics, "get_meter", signals.meters.get_meter)
    Hook.enable_builtin("metrics", duration=True)
    for _ in range(5):
        divide(1, 2)
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    assert telemetry.flush(10)
    found = signals.metrics
    for name in (DURATION, semconv.EXECUTE_TOOL_DURATION):
        assert sorted(point.count for point in found[name].data.data_points) == [1, 5]
    (failed,) = [p for p in found[DURATION].data.data_points if p.count == 1]
    assert failed.attributes == {
        names.COMPONENT_TYPE: "tool",
        names.COMPONENT_NAME: "divide",
        semconv.ERROR_TYPE: "ZeroDivisionError",
    }
    assert snapshot()["tool:divide"]["operations"] == 6
    telemetry.close()


def test_instruments_are_switched_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, nothing of it is recorded; switched off, it records again."""
    signals = Signals()
    telemetry = Telemetry(signals.providers)
    monkeypatch.setattr(ports, "telemetry", telemetry)
    Hook.enable_builtin("metrics", without=semconv.EXECUTE_TOOL_DURATION)
    divide(1, 2)
    assert telemetry.flush(10)
    assert semconv.EXECUTE_TOOL_DURATION not in signals.metrics
    Hook.disable_builtin("metrics")
    divide(1, 2)
    assert telemetry.flush(10)
    assert signals.points[semconv.EXECUTE_TOOL_DURATION]
    telemetry.close()


def test_names_without_end_are_counted_as_one() -> None:
    """The number of components is bounded."""
    Hook.enable_builtin("metrics", series=3)
    for number in range(10):
        tool(f"t{number}")(lambda: None)()
    assert set(snapshot()) == {"tool:t0", "tool:t1", "tool:t2", OTHER}
    assert snapshot()[OTHER]["operations"] == 7


@pytest.mark.parametrize(
    "settings", [{"also": ["nothing"]}, {"without": "x"}, {"percentiles": [0]}, {"series": 0}]
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(SettingsError, match=f"builtin.metrics.{min(settings)}"):
        Hook.enable_builtin("metrics", settings)


EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("source", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_page_run(source: str) -> None:
    """Each by itself."""
    exec(compile(source, str(PAGE), "exec"), {"__name__": "example"})


def test_the_page_tells_of_every_setting() -> None:
    """No setting is left out."""
    page = PAGE.read_text("utf-8")
    own = set(MetricsSettings.model_fields) - {"include", "exclude", "breaker"}
    assert {name for name in own if f"`{name}`" not in page} == set()
