"""Tools, workflows, stages, and every span by name."""

from deploy.grafana.model import Board, Panel, Query, Row
from deploy.grafana.queries import ENVIRONMENT, SERVICE, TOOLS, rate
from deploy.grafana.shapes import bands, failures, rates, slowest

_TOOL = "gen_ai_tool_name"
_STAGES = "llmspell_stage_duration_seconds"
_SPANS = "traces_span_metrics"

_TOOL_ROW = Row(
    "Tools",
    (
        rates("Tool calls", "Calls that ended, a second, by tool.", f"{TOOLS}_count", _TOOL),
        failures(
            "Failed tool calls",
            "The part of each tool's calls that failed; zero where none did.",
            TOOLS,
            _TOOL,
        ),
        slowest(
            "Tool time, 95th percentile",
            "By tool. A dot is one call: click it to open its trace.",
            TOOLS,
            _TOOL,
        ),
        bands(
            "Tool calls by duration",
            "Where all tool calls lie; a second band is often a timeout.",
            TOOLS,
            width=12,
        ),
        rates(
            "Errors by tool and type",
            "A second; a refusal by a hook is an error of its own type.",
            f"{TOOLS}_count",
            f"{_TOOL}, error_type",
            'error_type!=""',
            stacked=True,
            width=6,
        ),
        Panel(
            title="Tool calls by agent",
            why="Which agent calls which tool, a second.",
            unit="reqps",
            width=6,
            queries=(
                Query(
                    rate(f"{TOOLS}_count", f"gen_ai_agent_name, {_TOOL}"),
                    "{{gen_ai_agent_name}} → {{gen_ai_tool_name}}",
                ),
            ),
        ),
    ),
)

_STAGE_ROW = Row(
    "Workflow stages",
    (
        rates(
            "Stages",
            "Stages that ended, a second.",
            f"{_STAGES}_count",
            "llmspell_component_name",
            width=12,
        ),
        slowest(
            "Stage time, 95th percentile",
            "The slowest stage is where a workflow's time goes.",
            _STAGES,
            "llmspell_component_name",
            width=12,
        ),
    ),
)

_SPAN_ROW = Row(
    "Every span by name, counted by the collector",
    (
        rates(
            "Spans",
            "A second, of agents that send no metrics as well.",
            f"{_SPANS}_calls_total",
            "span_name",
        ),
        rates(
            "Failed spans",
            "Spans with status error, a second.",
            f"{_SPANS}_calls_total",
            "span_name",
            'status_code="STATUS_CODE_ERROR"',
        ),
        slowest(
            "Span time, 95th percentile",
            "As the spans say; differs from the agents' own metrics only by the buckets.",
            f"{_SPANS}_duration_seconds",
            "span_name",
        ),
    ),
)

TOOLS_BOARD = Board(
    uid="llmspell-tools",
    title="Agents: tools and workflows",
    why="Which tools and stages run, fail and take time.",
    choices=(ENVIRONMENT, SERVICE),
    rows=(_TOOL_ROW, _STAGE_ROW, _SPAN_ROW),
)
