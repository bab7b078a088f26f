"""The support desk: the program alone, and under `llmspell-otel run` with its hooks."""

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from docs.examples.support_desk.demo import AUDIT, COMMAND, DUMPS, HERE, PROVIDER
from docs.examples.support_desk.scenario import reply
from llmspell_otel.builtin import NAMES
from llmspell_otel.builtin.audit import verify
from llmspell_otel.testing import ModelRequest, ModelServer, Reply, Usage
from tests.kit.otlp import OtlpReceiver

pytest.importorskip("agents", reason="the support desk is a program of openai-agents")

ROOT = HERE.parents[2]
# Each child imports the SDK anew, which on a machine that is busy takes its time.
pytestmark = pytest.mark.timeout(300)


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with no telemetry variables but those given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        command,
        env=inherited | PROVIDER | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_program_is_an_ordinary_one() -> None:
    """The program itself mentions neither this library nor telemetry."""
    source = (HERE / "app.py").read_text().lower()
    assert "llmspell" not in source
    assert "telemetry" not in source


def test_the_program_runs_alone() -> None:
    """Without hooks it runs to its end: the flaky tool fails twice, and the account is deleted."""
    with ModelServer(reply) as server:
        done = run([sys.executable, str(HERE / "app.py")], **server.environment)
        requests = server.requests
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("calls look_up_order") == 3
    assert "[triage]" in done.stdout
    assert "[refunds]" in done.stdout
    assert "ada.lovelace@analytical.example>.'" in done.stdout
    assert "Customer C-7 was deleted." in done.stdout
    assert done.stdout.rstrip().endswith("Your account has been deleted.")
    assert len(requests) == 7
    assert {request.model for request in requests} == {"gpt-5-mini"}
    assert all(request.stream for request in requests)


def test_the_demo_steers_the_program_and_prints_its_trace() -> None:
    """`make demo`: retried, cached, masked and refused as the README says, and shown as a tree."""
    done = run([sys.executable, "-m", "docs.examples.support_desk.demo"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("calls look_up_order") == 1
    assert "gets  An error occurred" not in done.stdout
    assert "<[address]>.'" in done.stdout
    assert "gets  Deleting customers needs a person's approval." in done.stdout
    assert "was deleted" not in done.stdout
    assert "a colleague will take that up with you." in done.stdout
    tree = done.stdout + done.stderr
    for shown in ("support-desk", "3 attempts", "from cache", "REFUSED", "mask_email: modified"):
        assert shown in tree
    assert re.search(r"total  2 agents · 5 model calls · 6 tool calls .* \$0\.001273", tree)


def test_all_eight_built_in_hooks_take_part(tmp_path: Path) -> None:
    """Each leaves what it is there for: in the process, in files, and over OTLP."""
    kept = {AUDIT: str(tmp_path / "audit.jsonl"), DUMPS: str(tmp_path / "dumps")}
    with ModelServer(reply) as server, OtlpReceiver(grpc=False) as receiver:
        done = run(COMMAND, **server.environment, **receiver.environment(), **kept)
    assert done.returncode == 0, done.stderr
    report = dict(re.findall(r"^  (\w+) +(.+)$", done.stdout, re.MULTILINE))
    assert set(NAMES) <= set(report)
    assert {name: report[name] for name in ("caching", "rate_limit", "retry")} == {
        "caching": "1 hit, 1 miss",
        "rate_limit": "11 calls let through",
        "retry": "2 more attempts",
    }
    assert report["cost_tracking"] == "triage $0.000442850, refunds $0.000830250"
    assert "2 of them failures" in report["logging"]
    assert "18 operations" in report["metrics"]

    audited = verify(kept[AUDIT])
    assert audited.whole
    entries = [json.loads(line) for line in Path(kept[AUDIT]).read_text().splitlines()]
    assert {"tool:send_email", "model:gpt-5-mini"} <= {each["component"] for each in entries}
    assert {rule["rule"] for each in entries for rule in each["rules"]} >= {"email"}
    dumps = [json.loads(path.read_text()) for path in (tmp_path / "dumps").iterdir()]
    failures = [dump["entries"][-1] for dump in dumps]
    assert [(each["point"], each["error"]) for each in failures] == [
        ("tool:error", "ConnectionError")
    ] * 2
    assert failures[0]["stack"][-1]["function"] == "OrderService.get"

    spans = {span.span_id for span in receiver.spans()}
    lines = [log for log in receiver.logs() if "tool:error" in str(log.body)]
    assert len(lines) == 2
    assert {log.span_id for log in lines} <= spans
    assert receiver.points("llmspell.operation.duration")
    spent = sum(point.value or 0 for point in receiver.points("llmspell.cost.spent"))
    assert spent == pytest.approx(0.0012731)
    chats = receiver.spans("chat gpt-5-mini")
    assert {each.attributes["llmspell.rate_limiting.result"] for each in chats} == {"acquired"}


def test_the_trace_arrives_over_otlp() -> None:
    """One trace: two agents' turns, the hand-off, six tool calls and five priced model calls."""
    with ModelServer(reply) as server, OtlpReceiver(grpc=False) as receiver:
        done = run(COMMAND, **server.environment, **receiver.environment())
        assert done.returncode == 0, done.stderr
        requests = server.requests
    assert len(requests) == 5
    spans = receiver.spans()
    assert len({span.trace_id for span in spans}) == 1
    assert {span.resource["service.name"] for span in spans} == {"support-desk"}
    root = receiver.span("invoke_agent triage")
    assert root.parent_id is None
    assert [span.status for span in spans if span.status == "ERROR"] == []
    assert {span.parent_id for span in spans} - {None} <= {span.span_id for span in spans}

    assert receiver.span("execute_tool look_up_order").attributes["llmspell.retry.count"] == 2
    searches = receiver.spans("execute_tool search_knowledge")
    assert [each.attributes["llmspell.cache.result"] for each in searches] == ["miss", "hit"]
    refused = receiver.span("execute_tool delete_customer").attributes
    assert refused["llmspell.operation.outcome"] == "refused"
    assert receiver.span("execute_tool send_email").attributes["llmspell.hook.result"] == "modified"
    assert receiver.span("run_stage handoff refunds").trace_id == root.trace_id

    calls = receiver.spans("chat gpt-5-mini")
    tokens = [call.attributes["gen_ai.usage.input_tokens"] for call in calls]
    assert tokens == [412, 561, 704, 862, 1043]
    assert 0 < sum(call.attributes["llmspell.cost.total"] for call in calls) < 0.05
    sent = str([span.attributes for span in spans]) + str(receiver.logs())
    assert "ada.lovelace" not in sent


def test_a_run_that_costs_too_much_is_stopped() -> None:
    """After a call that costs more than the limit, no model is asked again, and the run ends."""

    def dear(request: ModelRequest) -> Reply:
        look_up = ("look_up_order", {"order_id": "A-1042"})
        return Reply.tools(look_up, usage=Usage(input=1_000_000, output=100_000))

    with ModelServer(dear) as server:
        done = run(COMMAND, **server.environment)
        requests = server.requests
    assert len(requests) == 1
    assert done.returncode == 1
    # A million tokens in at 0.25 USD, 0.1 million out at 2 USD a million.
    assert f"This run has cost ${Decimal('0.45'):.4f}; the limit is $0.05." in done.stderr
