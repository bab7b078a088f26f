"""The debugging hook: what it keeps of real calls, where it stops, what it dumps."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspell_otel import Hook, tool
from llmspell_otel.builtin.debugging import DebuggingSettings, Recorder, recorder
from llmspell_otel.cli import main
from llmspell_otel.errors import SettingsError

PAGE = Path(__file__).parents[2] / "docs/how-to/builtin-debugging.md"
KEY = "sk-" + "proj-a1B2c3D4e5F6g7H8i9J0k1L2"


@tool
def divide(one: float, other: float) -> float:
    """Divide."""
    return one / other


def debug(**settings: Any) -> Recorder:
    """Switch the hook on."""
    Hook.enable_builtin("debugging", **settings)
    found = recorder()
    assert found is not None
    return found


def test_stack_and_variables_of_the_caller() -> None:
    """The frames are those of the program, not ours."""
    kept = debug(variables=True)
    local = "here"
    divide(1, 2)
    (before,) = kept.find(point="tool:before_execution")
    frame = before["stack"][-1]
    assert frame["function"] == "test_stack_and_variables_of_the_caller"
    assert frame["file"] == __file__
    assert frame["variables"]["local"] == f'"{local}"'
    (after,) = kept.find(point="tool:after_execution", component="tool:div*")
    assert after["data"]["output"] == "0.5"
    assert 0 < after["seconds"] < 5
    Hook.disable_builtin("debugging")
    assert recorder() is None


def test_an_error_has_the_stack_where_it_was_raised() -> None:
    """With the variables as they were."""
    kept = debug()
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    (failed,) = kept.find(point="tool:error")
    assert failed["error"] == "ZeroDivisionError"
    assert failed["stack"][-1]["function"] == "divide"
    assert failed["stack"][-1]["variables"]["other"] == "0"


def test_values_are_redacted_bounded_and_inert() -> None:
    """Secrets, huge and hostile values; nothing of a foreign object is called."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    @tool
    def take(value: Any) -> None:
        """Take."""

    kept = debug(max_bytes=64)
    password, huge, odd, hostile = "hunter2", "x" * 10_000_000, "\x1b[31m\u202e\ud800", Hostile()
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (KEY, huge, odd, hostile, cycle):
        take(value)
    del password
    text = json.dumps(list(kept.ring))
    assert KEY not in text
    assert "hunter2" not in text
    assert len(text) < 2_000_000
    assert "\\\\u001b" in text
    assert "\x1b" not in "".join(entry["data"]["input"] for entry in kept.ring)


def test_what_is_kept_is_as_it_was() -> None:
    """Values that change after their moment are kept as they were in it, records too."""

    class Order:
        def __init__(self) -> None:
            self.lines = ["one"]
            self.password = KEY

    @tool
    def take(value: Any, note: str) -> None:
        """Take, and change."""
        value.lines.append("two") if isinstance(value, Order) else value.clear()

    kept = debug(points=["tool:before_execution"], max_bytes=256)
    take(Order(), "n")
    take({"deep": [{"a": "b"}] * 2, "long": "x" * 10_000}, "n")
    take(dict.fromkeys(range(5000), "y" * 20), "n")
    record, mapping, wide = (entry["data"]["input"] for entry in kept.ring)
    assert record == '{"value": Order{"lines": ["one"], "password": "[redacted]"}, "note": "n"}'
    assert mapping.startswith('{"value": {"deep": [{"a": "b"}, {"a": "b"}], "long": "xxx')
    assert mapping.endswith("…")
    assert wide.startswith('{"value": {"0": "yyyy')


def test_the_ring_keeps_the_latest() -> None:
    """A deque: what is oldest goes."""
    kept = debug(entries=3, frames=0, points=["tool:after_execution"])
    for number in range(1, 6):
        divide(number, 1)
    assert [entry["data"]["output"] for entry in kept.ring] == ["3.0", "4.0", "5.0"]
    assert all("stack" not in entry for entry in kept.ring)


def test_parts_can_be_left_out() -> None:
    """Variables, content, quick calls."""
    kept = debug(variables=False, content=False, min_duration=60, points=["tool:*"])
    divide(1, 2)
    assert kept.find(point="tool:after_execution") == []
    (before,) = kept.find(point="tool:before_execution")
    assert "data" not in before
    assert "variables" not in before["stack"][-1]
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    assert kept.find(point="tool:error")


def test_breakpoints_hand_over_the_live_context() -> None:
    """Where point, component and condition fit; what they raise is contained."""
    seen: list[Any] = []

    def broken(_context: Any) -> bool:
        raise ValueError("no")

    debug(
        breakpoints=[
            {
                "point": "tool:before_execution",
                "component": "tool:divide",
                "condition": lambda context: context.input["other"] == 4,
                "action": seen.append,
            },
            {"point": "tool:*", "condition": broken, "action": seen.append},
            {"component": "tool:other", "action": seen.append},
        ],
        points=["nothing"],
    )
    divide(1, 2)
    assert divide(1, 4) == 0.25
    (context,) = seen
    assert context.input == {"one": 1, "other": 4}


def test_without_an_action_python_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """`breakpoint()`, as `sys.breakpointhook` has it."""
    stopped: list[None] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stopped.append(None))
    debug(breakpoints=[{"point": "tool:after_execution"}])
    divide(1, 2)
    assert len(stopped) == 1


def test_a_failing_call_leaves_a_dump_to_browse(tmp_path: Path) -> None:
    """Readable for its owner; the oldest go; the command lists and shows."""
    debug(dump=tmp_path / "d", dumps=2)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            divide(1, 0)
    files = sorted((tmp_path / "d").iterdir())
    assert len(files) == 2
    assert files[-1].stat().st_mode & 0o077 == 0

    def browse(*words: str) -> str:
        result = CliRunner().invoke(main, ["debug", str(files[-1]), *words])
        assert result.exit_code == 0, result.output
        return result.output

    lines = browse("--point", "tool:error").splitlines()
    assert len(lines) == 3
    assert "tool:divide" in lines[0]
    assert "ZeroDivisionError" in lines[0]
    shown = browse("--entry", "-1")
    assert "in divide" in shown
    assert "other = 0" in shown
    junk = tmp_path / "junk.json"
    junk.write_text("[]")
    refused = CliRunner().invoke(main, ["debug", str(junk)])
    assert refused.exit_code == 1
    assert "is no dump" in refused.output


def test_a_dump_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    """The call fails as it would have."""
    (tmp_path / "file").write_text("")
    debug(dump=tmp_path / "file")
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)


@pytest.mark.parametrize("settings", [{"entries": 0}, {"frames": -1}, {"breakpoints": [{"x": 1}]}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(SettingsError, match=f"builtin.debugging.{min(settings)}"):
        debug(**settings)


EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("source", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_page_run(source: str) -> None:
    """Each by itself."""
    exec(compile(source, str(PAGE), "exec"), {"__name__": "example"})


def test_the_page_tells_of_every_setting() -> None:
    """No setting is left out."""
    page = PAGE.read_text("utf-8")
    own = set(DebuggingSettings.model_fields) - {"include", "exclude", "breaker"}
    assert {name for name in own if name not in page} == set()
