"""One agent, in depth."""

from deploy.grafana.model import Board, Choice, Kind, LogSearch, Panel, Query, Row, TraceSearch
from deploy.grafana.queries import (
    CALLS,
    CHOSEN,
    COST,
    ENVIRONMENT,
    RUNS,
    SERVICE,
    TOOLS,
    errors,
    mean,
    quantile,
    rate,
    ratio,
)
from deploy.grafana.shapes import slowest

_THIS = 'gen_ai_agent_name=~"$agent"'
_USAGE = "gen_ai_client_inference_operation"

_RUNS = Row(
    "Runs",
    (
        Panel(
            title="Runs",
            why="Runs of this agent that ended, a second: all, and those that failed.",
            unit="reqps",
            queries=(
                Query(rate(f"{RUNS}_count", "", _THIS), "all"),
                Query(
                    rate(f"{RUNS}_count", "error_type", f'{_THIS},error_type!=""'), "{{error_type}}"
                ),
            ),
        ),
        Panel(
            title="Failed runs",
            why="The part of the runs that failed; the error budget is 1 %.",
            unit="percentunit",
            queries=(Query(errors(RUNS, "", _THIS), "failed"),),
        ),
        Panel(
            title="Run time",
            why="Median, 95th and 99th percentile. A dot is one run: click it to open its trace.",
            unit="s",
            queries=tuple(
                Query(quantile(part, RUNS, "", _THIS), name)
                for part, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
            ),
        ),
    ),
)

_INSIDE = Row(
    "Inside a run",
    (
        Panel(
            title="Model calls per run",
            why="The agent's own calls, failed ones included; a rising line is a loop.",
            unit="short",
            queries=(Query(mean("gen_ai_invoke_agent_inference_calls", "", _THIS), "mean"),),
        ),
        Panel(
            title="Tool calls per run",
            why="Tools that ran on our side.",
            unit="short",
            queries=(Query(mean("gen_ai_invoke_agent_tool_calls", "", _THIS), "mean"),),
        ),
        slowest(
            "Tool time, 95th percentile",
            "By tool, for tools that this agent called.",
            TOOLS,
            "gen_ai_tool_name",
            _THIS,
        ),
        slowest(
            "Model time, 95th percentile",
            "By model, for every call of the chosen services: model metrics name no agent.",
            CALLS,
            "gen_ai_request_model",
        ),
        Panel(
            title="Tokens per call, 95th percentile",
            why="Prompts that grow from call to call show here before they show on the bill.",
            unit="short",
            queries=(
                Query(quantile(0.95, f"{_USAGE}_input_tokens"), "input"),
                Query(quantile(0.95, f"{_USAGE}_output_tokens"), "output"),
            ),
        ),
        Panel(
            title="Cost per run",
            why="What the agent's model calls cost, divided by its runs.",
            unit="currencyUSD",
            queries=(
                Query(
                    ratio(
                        rate(COST, "", f'{_THIS},llmspell_cost_currency="USD"'),
                        rate(f"{RUNS}_count", "", _THIS),
                    ),
                    "mean",
                ),
            ),
        ),
    ),
)

_EVIDENCE = Row(
    "Evidence",
    (
        Panel(
            title="Failed runs, newest first",
            why="Traces in Jaeger; a click opens one, and from any span its log records.",
            unit="none",
            kind=Kind.TABLE,
            width=12,
            height=10,
            queries=(TraceSearch("invoke_agent $agent", "error=true"),),
        ),
        Panel(
            title="Log records",
            why="Exceptions, hook verdicts and retries as log records, each with its trace id.",
            unit="none",
            kind=Kind.LOGS,
            width=12,
            height=10,
            queries=(LogSearch('{service_name=~"$service"}'),),
        ),
    ),
)

AGENT = Board(
    uid="llmspell-agent",
    title="Agents: one agent",
    why="How one agent runs, what it spends its time and money on, and the traces that show why.",
    choices=(
        ENVIRONMENT,
        SERVICE,
        Choice(
            name="agent",
            label="gen_ai_agent_name",
            metric=f"{RUNS}_count",
            among=CHOSEN,
            title="Agent",
            several=False,
        ),
    ),
    rows=(_RUNS, _INSIDE, _EVIDENCE),
)
