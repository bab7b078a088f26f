"""The cost hook: exact sums, budgets that stop the next call, alerts once in a window."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from openai import OpenAI

from llmspell_instrumentation.openai import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel import Hook, agent, tool
from llmspell_otel.builtin.cost_tracking import CostSettings, around, totals
from llmspell_otel.builtin.identity import acting_as
from llmspell_otel.builtin.spending import OTHER, Ledger, Sum
from llmspell_otel.cli import main
from llmspell_otel.errors import OperationCancelled, SettingsError
from llmspell_otel.events import default_bus
from llmspell_otel.events.journal import Journal
from llmspell_otel.operations.ports import ports
from llmspell_otel.testing import ModelServer, Reply, Usage
from tests.telemetry.support import Signals

PAGE = Path(__file__).parents[2] / "docs/how-to/builtin-cost-tracking.md"
PRICES = {"gpt-5-mini": {"input": "0.1", "output": "0.3"}}
ONE = Decimal("0.000013")  # 100 tokens at 0.1, 10 at 0.3, per million


class Desk:
    """A scripted server, a client, and the events of cost."""

    def __init__(self, client: OpenAI, server: ModelServer, events: list[Any]) -> None:
        self.client = client
        self.server = server
        self.events = events

    def ask(self, text: str = "hello", model: str = "gpt-5-mini", **more: Any) -> Any:
        """Ask the model."""
        messages = [{"role": "user", "content": text}]
        return self.client.chat.completions.create(model=model, messages=messages, **more)

    @property
    def told(self) -> list[str]:
        """The types of the events but records."""
        return [event.event_type for event in self.events if event.event_type != "cost.recorded"]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The real SDK against a server that always uses 100 tokens for 10."""
    monkeypatch.setattr(ports, "telemetry", None)
    heard: list[Any] = []
    subscription = default_bus().subscribe("cost.**", heard.append)
    with ExitStack() as stack:
        stack.enter_context(attach(ADAPTER))
        server = stack.enter_context(
            ModelServer(lambda _: Reply.text("hi", usage=Usage(input=100, output=10)))
        )
        client = OpenAI(base_url=server.base_url, api_key="k", max_retries=0, timeout=5)
        yield Desk(stack.enter_context(client), server, heard)
    subscription.unsubscribe()


def track(**settings: Any) -> Any:
    """Switch the hook on, and give what sums."""
    Hook.enable_builtin("cost_tracking", **{"prices": PRICES, **settings})
    return around.tracker


def test_sums_are_exact_and_by_everything(desk: Desk) -> None:
    """By run, agent, tool, model, user, tenant and session; no floating point."""
    track()

    @tool
    def look_up() -> None:
        desk.ask()

    @agent
    def helper() -> None:
        desk.ask()
        look_up()

    with acting_as("ada", tenant="acme", session="s1"):
        helper()
    desk.ask()
    assert totals() == {"": {"USD": Sum(3 * ONE, 3, 0)}}
    assert totals("model") == {"gpt-5-mini": {"USD": Sum(3 * ONE, 3, 0)}}
    assert totals("agent") == {"helper": {"USD": Sum(2 * ONE, 2, 0)}}
    assert totals("tool") == {"look_up": {"USD": Sum(ONE, 1, 0)}}
    for by, name in (("user", "ada"), ("tenant", "acme"), ("session", "s1")):
        assert totals(by) == {name: {"USD": Sum(2 * ONE, 2, 0)}}
    assert sorted(each["USD"].calls for each in totals("run").values()) == [1, 2]
    (first, *_) = desk.events
    assert first.event_type == "cost.recorded"
    assert first.traceparent
    assert first.traceparent.split("-")[1] == first.correlation_id.replace("-", "")
    assert Decimal(first.data["cost"]) == ONE
    assert first.data["agent"] == "helper"
    Hook.disable_builtin("cost_tracking")
    assert totals() == {}


def test_a_budget_stops_the_next_call_before_it_is_paid_for(desk: Desk) -> None:
    """Once the limit would be passed no request leaves, and one event says so."""
    track(budgets=[{"limit": "0.00003"}], output_tokens=10)
    desk.ask()
    desk.ask()
    for _ in range(3):
        with pytest.raises(OperationCancelled, match=r"the budget of 0\.00003 USD \(total\) has"):
            desk.ask("x" * 300)
    assert len(desk.server.requests) == 2
    assert desk.told == ["cost.threshold.warning", "cost.threshold.warning", "cost.budget.exceeded"]


def test_the_estimate_reads_the_request(desk: Desk) -> None:
    """A call that may cost more than is left is stopped at once; its limit on tokens counts."""
    track(budgets=[{"limit": "0.0001"}], output_tokens=1000)
    with pytest.raises(OperationCancelled, match="may cost"):
        desk.ask()
    desk.ask(max_completion_tokens=10)
    with pytest.raises(OperationCancelled, match="may cost"):
        desk.ask("x" * 10_000, max_completion_tokens=10)
    assert len(desk.server.requests) == 1


def test_budgets_of_each_user(desk: Desk) -> None:
    """One user's spending does not stop another."""
    track(budgets=[{"limit": "0.00002", "by": "user", "warn": []}], output_tokens=1)
    for user in ("ada", "bob"):
        with acting_as(user):
            desk.ask()
            desk.ask()
            with pytest.raises(OperationCancelled, match=f"user {user}"):
                desk.ask()
    assert desk.told.count("cost.threshold.exceeded") == 2
    desk.ask()  # nobody's: no budget holds


def test_a_new_window_has_a_new_budget(desk: Desk) -> None:
    """Each threshold is told once in a window, and anew in the next."""
    tracker = track(budgets=[{"limit": "0.00002", "warn": ["0.5"]}], window=60, output_tokens=1)
    now = [600.0]
    tracker.clock = lambda: now[0]
    for _ in range(2):
        desk.ask()
        desk.ask()
        with pytest.raises(OperationCancelled):
            desk.ask()
        now[0] += 60
    one = ["cost.threshold.warning", "cost.threshold.exceeded", "cost.budget.exceeded"]
    assert desk.told == one * 2
    assert totals(windowed=False)[""]["USD"].calls == 4
    now[0] -= 3600  # a clock that is set back opens no window
    with pytest.raises(OperationCancelled):
        [desk.ask() for _ in range(3)]


def test_a_budget_may_only_tell(desk: Desk) -> None:
    """With `block` off, calls go on."""
    track(budgets=[{"limit": "0.00001", "block": False, "warn": []}])
    desk.ask()
    desk.ask()
    assert desk.told == ["cost.threshold.exceeded"]


def test_models_without_a_price_are_counted(desk: Desk) -> None:
    """They are no error and cost nothing, unless a budget is to stop them."""
    track(budgets=[{"limit": 1}])
    desk.ask(model="made-up")
    assert totals("model")["made-up"] == {"USD": Sum(Decimal(0), 1, 1)}
    assert desk.events[-1].data["priced"] is False
    track(budgets=[{"limit": 1}], on_unpriced="block")
    with pytest.raises(OperationCancelled, match="price of 'made-up' is unknown"):
        desk.ask(model="made-up")


def test_answers_of_hooks_and_failed_calls_cost_nothing(desk: Desk) -> None:
    """A replaced answer is not paid for; nor is a request that the provider refused."""
    from llmspell_otel.hooks import Replace

    track()
    handle = Hook.register("model:before_call", lambda _: Replace("mine"))
    desk.ask()
    handle.unregister()
    with pytest.raises(Exception, match="messages"):
        desk.client.chat.completions.create(model="gpt-5-mini", messages=[])
    assert totals() == {}


def test_calls_at_once_share_what_is_left(desk: Desk) -> None:
    """Money that a call under way may take is held, and let go with it."""
    tracker = track(budgets=[{"limit": "0.000018", "warn": []}], output_tokens=30)
    seen: list[Any] = []

    def second(context: Any) -> None:
        if not seen:
            seen.append(None)
            with ThreadPoolExecutor() as pool:
                seen.append(pool.submit(desk.ask).exception(10))

    Hook.register("model:before_call", second, priority=2_147_483_647)
    desk.ask()
    assert isinstance(seen[1], OperationCancelled)
    assert not tracker.purses.held
    assert totals()[""]["USD"].cost == ONE


def test_otlp_metrics_have_the_currency(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter, with agent, model and currency; euros are not added to dollars."""
    from opentelemetry import metrics

    signals = Signals()
    monkeypatch.setattr(metrics, "get_meter", signals.meters.get_meter)
    track(prices={"gpt-5-mini": {"input": 1, "output": 1, "currency": "eur"}})
    desk.ask()
    ((labels, value),) = signals.points["llmspell.cost.spent"]
    assert labels["llmspell.cost.currency"] == "EUR"
    assert labels["gen_ai.request.model"] == "gpt-5-mini"
    assert value == pytest.approx(0.00011)
    assert totals()[""].keys() == {"EUR"}


@pytest.mark.parametrize(
    "settings",
    [
        {"budgets": [{"limit": 0}]},
        {"budgets": [{"limit": "nan"}]},
        {"budgets": [{"limit": 1, "by": "moon"}]},
        {"window": -1},
        {"prices": {"m": {"input": "free"}}},
        {"prices": {"m": {}}},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    """With the setting's name."""
    with pytest.raises(SettingsError, match=f"builtin.cost_tracking.{min(settings)}"):
        track(**settings)


def test_names_without_end_do_not_fill_the_memory() -> None:
    """Beyond the limit, names are summed as one; the total stays exact."""
    ledger = Ledger(0)
    for number in range(12_000):
        ledger.add({"user": f"u{number}"}, Decimal("0.1"), "USD", 0)
    users = ledger.report("user")
    assert len(users) <= 10_001
    assert sum(each["USD"].cost for each in users.values()) == Decimal(1200)
    assert users[OTHER]["USD"].calls > 1000
    assert ledger.report("total")[""]["USD"].cost == Decimal(1200)


def test_the_command_reports_from_the_journal(desk: Desk, tmp_path: Path) -> None:
    """By model and user; as a table, CSV and JSON."""
    track()
    journal = Journal(tmp_path / "journal")
    subscription = journal.attach(default_bus(), "cost.**")
    for user in ("=ada", "bob", "bob"):
        with acting_as(user):
            desk.ask()
    desk.ask(model="made-up")
    subscription.unsubscribe()
    journal.close()

    def report(*words: str) -> str:
        result = CliRunner().invoke(main, ["cost", "--journal", str(journal.path), *words])
        assert result.exit_code == 0, result.output
        return result.output

    assert report().splitlines()[1].split() == ["gpt-5-mini", "USD", "0.000039", "3", "0"]
    assert report("--by", "user", "--format", "csv").splitlines() == [
        "name,currency,cost,calls,unpriced",
        "bob,USD,0.000026,2,0",
        "'=ada,USD,0.000013,1,0",
        "(none),USD,0,1,1",
    ]
    assert json.loads(report("--by", "total", "--format", "json")) == [
        {"name": "", "currency": "USD", "cost": "0.000039", "calls": 4, "unpriced": 1}
    ]
    assert json.loads(report("--since", "2100-01-01", "--format", "json")) == []


EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("source", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_page_run(source: str) -> None:
    """Each by itself."""
    exec(compile(source, str(PAGE), "exec"), {"__name__": "example"})


def test_the_page_tells_of_every_setting() -> None:
    """No setting is left out."""
    page = PAGE.read_text("utf-8")
    own = set(CostSettings.model_fields) - {"include", "exclude", "breaker"}
    assert {name for name in own if f"`{name}`" not in page} == set()
