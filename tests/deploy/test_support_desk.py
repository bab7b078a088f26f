"""The real demo agent under `llmspell-otel run`, through the shipped servers."""

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.deploy import servers
from tests.deploy.conftest import Stack

pytestmark = pytest.mark.timeout(300)  # the first test waits for the whole stack
RESOURCE = "service.namespace=examples,deployment.environment.name=test"


@pytest.fixture(scope="module")
def trace(stack: Stack) -> dict[str, dict[str, Any]]:
    """The spans of one run of the support desk as Jaeger has them, by id."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.otlp}",
        "OTEL_RESOURCE_ATTRIBUTES": RESOURCE,
        "PYTHONPATH": str(servers.DEPLOY.parent),
    }
    done = subprocess.run(
        [sys.executable, "-m", "docs.examples.support_desk.demo"],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    def read() -> list[Any]:
        found: list[Any] = servers.get(
            f"{stack.jaeger}/api/traces", service="support-desk", limit="10", lookback="1h"
        )["data"]
        # The root ends last, so that it comes with or after all the others.
        return [run for run in found if any(not span["references"] for span in run["spans"])]

    (run,) = servers.eventually(read)
    return {span["spanID"]: span for span in run["spans"]}


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    """A span's attributes."""
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def operations(trace: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The attributes of every span of the operation *name*."""
    return [a for a in map(attributes, trace.values()) if a.get("gen_ai.operation.name") == name]


def test_one_run_is_one_whole_trace(trace: dict[str, dict[str, Any]]) -> None:
    """One root, and every other span's parent is there too."""
    parents = [[r["spanID"] for r in span["references"]] for span in trace.values()]
    roots = [found for found in parents if not found]
    assert len(roots) == 1
    assert all(one in trace for found in parents for one in found)


def test_the_trace_shows_agents_models_and_tools(trace: dict[str, dict[str, Any]]) -> None:
    """What ran, and what the hooks made of it."""
    assert {a["gen_ai.agent.name"] for a in operations(trace, "invoke_agent")} >= {"triage"}
    chats = operations(trace, "chat")
    assert chats
    assert all(a["gen_ai.usage.input_tokens"] > 0 for a in chats)
    tools = {a["gen_ai.tool.name"] for a in operations(trace, "execute_tool")}
    assert {"look_up_order", "send_email", "delete_customer"} <= tools


def test_a_steered_call_can_be_searched_for(stack: Stack, trace: dict[str, Any]) -> None:
    """What a hook refused is found in Jaeger by the hook's result, as its menu and sampling do."""
    answer = servers.get(
        f"{stack.jaeger}/api/traces",
        service="support-desk",
        tags='{"llmspell.hook.result":"cancel"}',
        lookback="1h",
    )
    assert {span for run in answer["data"] for span in (s["spanID"] for s in run["spans"])} >= {
        *trace
    }
    stopped = [
        a for a in map(attributes, trace.values()) if a.get("llmspell.hook.result") == "cancel"
    ]
    assert {a["gen_ai.tool.name"] for a in stopped} == {"delete_customer"}


def test_metrics_and_spans_say_the_same(stack: Stack, trace: dict[str, dict[str, Any]]) -> None:
    """Calls, tokens and money in Prometheus are the sums over the spans in Jaeger."""
    chats = operations(trace, "chat")
    mine = '{service_name="support-desk"}'
    expected = {
        f"gen_ai_client_inference_duration_seconds_count{mine}": len(chats),
        f"gen_ai_client_inference_usage_input_tokens_total{mine}": sum(
            a["gen_ai.usage.input_tokens"] for a in chats
        ),
        f"gen_ai_client_inference_usage_output_tokens_total{mine}": sum(
            a["gen_ai.usage.output_tokens"] for a in chats
        ),
        f"llmspell_inference_cost_total{mine}": sum(a["llmspell.cost.total"] for a in chats),
        f"gen_ai_execute_tool_duration_seconds_count{mine}": len(operations(trace, "execute_tool")),
    }
    for expression, value in expected.items():
        close = pytest.approx(value)

        def arrived(asked: str = f"sum({expression})", wanted: Any = close) -> bool:
            found = stack.query(asked, time.time())
            return bool(found) and float(found[0]["value"][1]) == wanted

        assert servers.eventually(arrived, 10), expression


def test_the_exporter_shows_its_books(stack: Stack, trace: dict[str, dict[str, Any]]) -> None:
    """The ledger of the program's exporter is in Prometheus, and nothing in it is lost."""
    assert trace
    books = "llmspell_export_records_total"
    found = servers.eventually(
        lambda: stack.query(f'{books}{{service_name="support-desk"}}', time.time()), 10
    )
    assert {series["metric"]["llmspell_export_outcome"] for series in found} == {"acknowledged"}
