"""Hook contexts across processes: what travels, how far, to whom."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage

from llmspell_otel import Hook, Modified, agent, tool
from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks import Decision
from llmspell_otel.operations.operation import current
from llmspell_otel.propagation import (
    PropagationPolicy,
    _read,
    _written,
    absorb,
    inject,
    received,
    trail,
)

SERVER = Path(__file__).with_name("tool_server.py")
DECIDED = Decision("polite", "agent:before_execution", "modified")


@pytest.fixture
def port() -> Iterator[int]:
    """Another process, which serves a tool."""
    with subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


def decided(work: Any) -> Any:
    """What *work* gives inside of an agent's operation in which one decision was made."""
    handle = Hook.register("BeforeAgentExecution", lambda _: Modified({"input": {}}), name="polite")

    @agent
    def deciding() -> Any:
        return work()

    try:
        return deciding()
    finally:
        handle.unregister()


def test_an_agent_here_and_a_tool_there_share_one_trail(port: int) -> None:
    """Over HTTP, between two processes: correlation id, parent span, decisions both ways."""

    def call() -> Any:
        operation = current.get()
        assert operation is not None
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=b"3", method="POST")
        for name, value in inject({}, to="127.0.0.1").items():
            request.add_header(name, value)
        with urllib.request.urlopen(request, timeout=20) as response:
            absorb(response.headers)
            return json.load(response), operation, trail()

    answer, operation, decisions = decided(call)
    assert answer["output"] == 20
    assert answer["correlation_id"] == operation.correlation_id
    assert answer["parent_span_id"] == f"{operation.span_id:016x}"
    assert answer["hops"] == 1
    assert answer["trail"] == [["polite", "agent:before_execution", "modified"]]
    assert [(each.hook, each.point, each.result) for each in decisions] == [
        ("polite", "agent:before_execution", "modified"),
        ("clamp", "tool:before_execution", "modified"),
    ]


def test_decisions_stop_after_so_many_hops() -> None:
    """Three by default; the trace goes on."""
    headers = decided(lambda: inject({}))
    for hop in (1, 2, 3):
        with received(headers) as caller:
            assert caller.hops == hop
            assert caller.decisions == (DECIDED,)
            headers = inject({})
    with received(headers) as caller:
        assert caller.hops == 0
        assert caller.decisions == ()
    assert "traceparent" in headers
    with pytest.raises(SettingsError, match="use 0"):
        PropagationPolicy(max_hops=-1)


def test_who_is_told_what() -> None:
    """Hosts and points are allowed by pattern; nobody else is told anything but the trace."""
    policy = PropagationPolicy(targets=("*.internal",), points=("tool:*",))
    with received(decided(lambda: inject({}, to="tools.internal", policy=policy))) as caller:
        assert (caller.hops, caller.decisions) == (1, ())
    headers = decided(lambda: inject({}, to="evil.example", policy=policy))
    assert set(headers) == {"traceparent"}
    with received(headers) as caller:
        assert caller.hops == 0


def test_strangers_are_not_believed() -> None:
    """The trace is joined, their decisions are not."""
    headers = decided(lambda: inject({})) | {"x-key": "wrong"}
    policy = PropagationPolicy(accepts=lambda got: got.get("x-key") == "right")
    with received(headers, policy=policy) as caller:
        assert (caller.hops, caller.decisions) == (0, ())
    with received({**headers, "X-Key": "right"}, policy=policy) as caller:
        assert caller.decisions == (DECIDED,)


def test_the_applications_baggage_is_its_own() -> None:
    """It travels beside ours, and ours is not shown to the application."""
    with received({"baggage": "tenant=blue,llmspell.hops=1,llmspell.trail=a~b~c"}) as caller:
        assert dict(baggage.get_all()) == {"tenant": "blue"}
        assert caller.decisions == (Decision("a", "b", "c"),)
        assert "tenant=blue" in inject({})["baggage"]
    assert not baggage.get_all()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": "nonsense", "baggage": ";;;=,"},
        {"baggage": "llmspell.hops=-1,llmspell.trail=a~b~c"},
        {"baggage": "llmspell.hops=²,llmspell.trail=x"},
        {"baggage": "llmspell.hops=99999999999,llmspell.trail=" + "a~b~c;" * 500},
        {"baggage": "llmspell.hops=1,llmspell.trail=a~b;~~;a~b~c~d"},
    ],
)
def test_nonsense_is_passed_over(headers: dict[str, str]) -> None:
    """Operations inside run as always."""

    @tool
    def inside() -> int:
        return 1

    Hook.register("tool:before_execution", lambda _: None)
    with received(headers) as caller:
        assert inside() == 1
        assert len(caller.decisions) <= 1
    absorb({"llmspell-trail": "~~~;;" * 10})


@given(
    st.lists(
        st.builds(Decision, st.text(max_size=60), st.text(max_size=30), st.text(max_size=10)),
        max_size=40,
    )
)
def test_a_trail_is_bounded_header_text(decisions: list[Decision]) -> None:
    """Whatever hooks are called: at most 16 decisions and 1024 characters, the latest ones."""
    text = _written(decisions)
    assert len(text) <= 1024
    assert text.isascii()
    assert not set(text) & set(' ,"\\%=\r\n')
    back = _read(text)
    assert len(back) <= 16
    if back:
        latest = decisions[-len(back) :]
        assert [len(each.hook) for each in back] == [len(each.hook) for each in latest]


def test_calls_inside_share_one_run() -> None:
    """Several operations of one request: one correlation id, one trail."""

    @tool
    def first() -> None: ...

    @tool
    def second() -> None: ...

    told: list[Any] = []
    Hook.register("tool:before_execution", told.append)
    Hook.register("tool:before_execution", lambda _: Modified({"input": {}}), name="noted")
    with received(decided(lambda: inject({}))) as caller:
        first()
        second()
        assert len({context.correlation_id for context in told}) == 1
        assert [each.hook for each in trail()] == ["polite", "noted", "noted"]
        reply = caller.reply({})
    assert [each.hook for each in absorb(reply)] == ["noted", "noted"]
    assert trail() == ()
