"""The system's points: start and end, changed settings, limits, violations."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel import Hook, instrument, uninstrument
from llmspell_otel.hooks import Component
from llmspell_otel.hooks.policies import load_policy
from llmspell_otel.hooks.registry import registry
from llmspell_otel.operations.ports import ports
from llmspell_otel.system import configuration_changed, security_violation

PROGRAM = """
from llmspell_otel import Hook, agent, instrument
for point in ("SystemStartup", "SystemShutdown", "BeforeAgentShutdown", "AfterAgentShutdown"):
    Hook.register(point, lambda c: print(c.point.name, sorted(c.data), flush=True))
instrument("openai")
instrument("openai")

@agent
def helper():
    print("helped", flush=True)

helper()
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No hooks."""
    registry.clear()
    yield
    registry.clear()


def test_a_process_starts_and_ends_once() -> None:
    """Startup at the first `instrument`, shutdown at the exit, after the agents ended."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "SystemStartup ['version']",
        "helped",
        "BeforeAgentShutdown []",
        "AfterAgentShutdown []",
        "SystemShutdown ['reason']",
    ]


def test_uninstrument_is_the_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start and end come in pairs."""
    monkeypatch.setattr(ports, "telemetry", ports.telemetry)
    uninstrument()
    told: list[str] = []
    Hook.register("SystemStartup", lambda c: told.append("up"))
    Hook.register("SystemShutdown", lambda c: told.append(c.data["reason"]))
    for _ in range(2):
        instrument("openai")
        uninstrument()
        uninstrument()
    assert told == ["up", "uninstrumented"] * 2


def test_a_reloaded_policy_is_a_changed_configuration(tmp_path: Path) -> None:
    """The first load is none; each later one names the file."""
    told: list[Any] = []
    Hook.register("ConfigurationChange", lambda c: told.append((c.data, c.metadata)))
    path = tmp_path / "policy.py"
    path.write_text("x = 1\n")
    policy = load_policy(path)
    assert told == []
    policy.reload()
    assert told == [({"changed": [str(path)]}, {"source": "policy"})]
    policy.unload()
    configuration_changed(["sampling"])
    assert told[1] == ({"changed": ["sampling"]}, {"source": "settings"})


def test_a_violation_is_told_and_contained() -> None:
    """With rule and component; what its hooks raise stays with them."""
    told: list[Any] = []
    Hook.register("system:security_violation", told.append)
    Hook.register("system:security_violation", lambda _: 1 / 0)
    security_violation("sql", Component("tool", "query"), detail={"field": "where"})
    assert told[0].data == {
        "rule": "sql",
        "component": {"type": "tool", "name": "query"},
        "field": "where",
    }
    assert told[0].component.name == "query"
