"""From a plain program with the OpenTelemetry SDK to every panel, through the shipped servers."""

import json
import math
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy import servers
from tests.deploy.conftest import Stack

pytestmark = pytest.mark.timeout(300)  # the first test waits for the whole stack
RULES = sorted((servers.DEPLOY / "prometheus" / "rules").glob("*.yaml"))
BOARDS = sorted((servers.DEPLOY / "grafana" / "dashboards").glob("*.json"))
MINE = '{service_name="trial-desk"}'
ENDINGS = ("_total", "_seconds_total", "_count", "_seconds_count")
# What is empty as long as nothing goes wrong.
ONLY_AFTER_FAULTS = {
    "otelcol_exporter_send_failed",
    "otelcol_exporter_enqueue_failed",
    "prometheus_tsdb_too_old_samples_total",
}


def value(tag: dict[str, Any]) -> Any:
    """A tag's value as Jaeger's API gives it; lists are JSON text."""
    found = tag["value"]
    return json.loads(found) if isinstance(found, str) and found[:1] == "[" else found


def traces(stack: Stack) -> dict[str, dict[str, dict[str, Any]]]:
    """Every span that Jaeger has, by trace and span id, read through its API."""
    answer = servers.get(
        f"{stack.jaeger}/api/traces", service="trial-desk", limit="5000", lookback="1h"
    )
    return {
        trace["traceID"]: {span["spanID"]: span for span in trace["spans"]}
        for trace in answer["data"]
    }


def parent(span: dict[str, Any]) -> str | None:
    """The id of the span that *span* is a child of."""
    return next((r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"), None)


def test_every_span_arrives_whole(stack: Stack) -> None:
    """Jaeger has exactly the spans that were sent: ids, names, parents and all attributes."""
    stored = traces(stack)
    sent = stack.ledger["spans"]
    assert sum(len(spans) for spans in stored.values()) == len(sent)
    for one in sent:
        span = stored[one["trace"]][one["span"]]
        assert (span["operationName"], parent(span)) == (one["name"], one["parent"])
        tags = {tag["key"]: value(tag) for tag in span["tags"]}
        assert {key: tags[key] for key in one["attributes"]} == one["attributes"]


def test_every_counter_arrives_exactly(stack: Stack) -> None:
    """Prometheus has the very sums and counts that the program recorded, name by name."""
    for name, total in stack.ledger["totals"].items():
        stem = name.replace(".", "_")
        candidates = [f"{stem}{end}" for end in ENDINGS]
        found = [r for c in candidates if (r := stack.query(f"sum({c}{MINE})"))]
        assert len(found) == 1, name
        assert float(found[0][0]["value"][1]) == pytest.approx(total), name


def test_the_five_resource_labels_are_on_every_series(stack: Stack) -> None:
    """Dashboards tell agents apart by these."""
    (series,) = stack.query(
        "sum by (service_name, service_namespace, service_version,"
        f" service_instance_id, deployment_environment_name) (llmspell_inference_cost_total{MINE})"
    )
    assert series["metric"] == {
        "service_name": "trial-desk",
        "service_namespace": "trial",
        "service_version": "1.0",
        "service_instance_id": "trial-desk-1",
        "deployment_environment_name": "test",
    }


def test_an_exemplar_leads_to_a_trace_in_jaeger(stack: Stack) -> None:
    """A dot on a latency panel carries the id of a trace that Jaeger has."""
    answer = servers.get(
        f"{stack.prometheus}/api/v1/query_exemplars",
        query=f"gen_ai_invoke_agent_duration_seconds_bucket{MINE}",
        start=str(stack.ended - 600),
        end=str(stack.ended),
    )
    ids = {e["labels"]["trace_id"] for series in answer["data"] for e in series["exemplars"]}
    assert ids
    assert ids <= set(traces(stack))


def test_every_record_arrives_with_its_trace(stack: Stack) -> None:
    """Loki has each log record once, with the id of a trace that Jaeger has."""
    sent = Counter((record["event"], record["trace"]) for record in stack.ledger["records"])
    everything = '{service_name="trial-desk"}'
    stored = servers.eventually(lambda: len(r := stack.logged(everything)) >= sent.total() and r)
    assert Counter((r["line"], r["trace_id"]) for r in stored or []) == sent
    assert {record["trace_id"] for record in stored or []} <= set(traces(stack))


def test_a_span_leads_to_its_records(stack: Stack) -> None:
    """The query behind Grafana's link from a trace to its logs finds them."""
    path = servers.DEPLOY / "grafana/provisioning/datasources/agents.yaml"
    (source,) = (
        s for s in yaml.safe_load(path.read_text())["datasources"] if s["uid"] == "llmspell-traces"
    )
    link = source["jsonData"]["tracesToLogsV2"]
    trace = stack.ledger["records"][0]["trace"]
    (tag,) = link["tags"]
    query = link["query"].replace("$$", "$").replace("${__trace.traceId}", trace)
    found = stack.logged(query.replace("${__tags}", f'{tag["value"]}="trial-desk"'))
    assert {record["trace_id"] for record in found} == {trace}


def test_every_search_for_logs_has_data(stack: Stack) -> None:
    """The panel of log records is a query that Loki answers."""
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel.get("datasource", {}).get("type") == "loki":
                (target,) = panel["targets"]
                assert stack.logged(target["expr"].replace("$service", "trial-desk"))


def test_jaeger_reads_the_span_metrics(stack: Stack) -> None:
    """Jaeger's Monitor page has rates and latencies, out of Prometheus."""
    window = {"endTs": str(int(stack.ended * 1000)), "lookback": "60000", "step": "5000"}
    for kind, extra in (("calls", {}), ("latencies", {"quantile": "0.95"})):
        answer = servers.get(
            f"{stack.jaeger}/api/metrics/{kind}",
            service="trial-desk",
            spanKind="client",
            ratePer="10000",
            **window,
            **extra,
        )
        points = [p for m in answer["metrics"] for p in m["metricPoints"]]
        assert any(float(point["gaugeValue"]["doubleValue"]) > 0 for point in points), kind


def _filled(expression: str) -> str:
    chosen = {
        "$__rate_interval": "30s",
        "$service": ".*",
        "$environment": ".*",
        "$agent": "support",
    }
    for name, text in chosen.items():
        expression = expression.replace(name, text)
    return expression


def _queries() -> Iterator[Any]:
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                if panel["datasource"]["type"] == "prometheus":
                    case = f"{path.stem}: {panel['title']} {target['refId']}"
                    yield pytest.param(target["expr"], target["legendFormat"], id=case)


@pytest.mark.parametrize(("expression", "legend"), list(_queries()))
def test_every_panel_has_data(stack: Stack, expression: str, legend: str) -> None:
    """Each query answers with finite numbers, and with the labels that its legend names."""
    result = stack.query(_filled(expression))
    if not result and any(name in expression for name in ONLY_AFTER_FAULTS):
        return
    assert result, _filled(expression)
    assert any(math.isfinite(float(series["value"][1])) for series in result)
    for label in re.findall(r"\{\{(\w+)\}\}", legend):
        assert any(label in series["metric"] for series in result), label


def test_the_saved_searches_of_jaeger_find_traces(stack: Stack) -> None:
    """Each entry of the menu is a search that Jaeger answers, for another service as well."""
    menu = json.loads((servers.DEPLOY / "jaeger" / "ui.json").read_text())["menu"]
    searches = [item["url"] for group in menu for item in group["items"]]
    assert len(searches) >= 4
    for url in searches:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        # The trial's spans last no time at all; the bound must be one that Jaeger can read.
        if bound := query.pop("minDuration", None):
            assert re.fullmatch(r"\d+(ms|s|m)", bound), url
        asked = {**query, "service": "trial-desk"}
        assert servers.get(f"{stack.jaeger}/api/traces", **asked)["data"], url


def test_every_search_for_traces_has_data(stack: Stack) -> None:
    """The table of failed runs is a search that Jaeger answers."""
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel.get("datasource", {}).get("type") == "jaeger":
                (target,) = panel["targets"]
                tags = dict(pair.split("=") for pair in target["tags"].split())
                answer = servers.get(
                    f"{stack.jaeger}/api/traces",
                    service="trial-desk",
                    operation=_filled(target["operation"]),
                    tags=json.dumps(tags),
                    limit="5",
                )
                assert answer["data"], panel["title"]


def test_every_variable_has_values(stack: Stack) -> None:
    """The choices at the top of each dashboard are filled from live series."""
    for path in BOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                assert found, variable["query"]
                assert stack.query(f"{_filled(found[1])}"), variable["name"]
                assert any(found[2] in s["metric"] for s in stack.query(_filled(found[1])))


def test_prometheus_evaluates_every_rule(stack: Stack) -> None:
    """No rule fails, and every recording rule has recorded something."""
    groups = servers.get(f"{stack.prometheus}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    shipped = [
        r for p in RULES for g in yaml.safe_load(p.read_text())["groups"] for r in g["rules"]
    ]
    assert len(rules) == len(shipped)
    assert {rule["health"] for rule in rules} == {"ok"}, [r.get("lastError") for r in rules]
    for rule in rules:
        if rule["type"] == "recording":
            assert stack.query(f'{{__name__="{rule["name"]}"}}'), rule["name"]


def _selectors(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") in {"vectorSelector", "matrixSelector"}:
            matchers = ",".join(
                f"{m['name']}{m['type']}{json.dumps(m['value'])}" for m in node["matchers"]
            )
            yield f"{{{matchers}}}"
        for child in node.values():
            yield from _selectors(child)
    elif isinstance(node, list):
        for child in node:
            yield from _selectors(child)


ALERTS = [
    pytest.param(rule["expr"], id=rule["alert"])
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


@pytest.mark.parametrize("expression", ALERTS)
def test_every_alert_looks_at_something_real(stack: Stack, expression: str) -> None:
    """Each series that an alert compares exists: a misspelt name could never fire."""
    tree = servers.get(f"{stack.prometheus}/api/v1/parse_query", query=expression)["data"]
    selectors = list(_selectors(tree))
    assert selectors
    for selector in selectors:
        if not any(name in selector for name in ONLY_AFTER_FAULTS):
            assert stack.query(selector.replace('="0"', '=~".*"')), selector
