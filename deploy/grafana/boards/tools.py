"""Tools, workflows, stages, and every span by name."""

from deploy.grafana.model import Board, Kind, Panel, Query, Row
from deploy.grafana.queries import ENVIRONMENT, SERVICE, TOOLS, errors, quantile, rate

_TOOL = "gen_ai_tool_name"
_STAGES = "llmspell_stage_duration_seconds"
_SPANS = "traces_span_metrics"

_TOOL_ROW = Row(
    "Tools",
    (
        Panel(
            title="Tool calls",
            why="Calls that ended, a second, by tool.",
            unit="reqps",
            queries=(Query(rate(f"{TOOLS}_count", _TOOL), "{{gen_ai_tool_name}}"),),
        ),
        Panel(
            title="Failed tool calls",
            why="The part of each tool's calls that failed; zero where none did.",
            unit="percentunit",
            queries=(Query(errors(TOOLS, _TOOL), "{{gen_ai_tool_name}}"),),
        ),
        Panel(
            title="Tool time, 95th percentile",
            why="By tool. A dot is one call: click it to open its trace.",
            unit="s",
            queries=(Query(quantile(0.95, TOOLS, _TOOL), "{{gen_ai_tool_name}}"),),
        ),
        Panel(
            title="Tool calls by duration",
            why="Where all tool calls lie; a second band is often a timeout.",
            unit="s",
            kind=Kind.HEAT,
            width=12,
            queries=(Query(rate(f"{TOOLS}_bucket", "le"), "{{le}}"),),
        ),
        Panel(
            title="Errors by tool and type",
            why="A second; a refusal by a hook is an error of its own type.",
            unit="reqps",
            stacked=True,
            width=6,
            queries=(
                Query(
                    rate(f"{TOOLS}_count", f"{_TOOL}, error_type", 'error_type!=""'),
                    "{{error_type}} · {{gen_ai_tool_name}}",
                ),
            ),
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
        Panel(
            title="Stages",
            why="Stages that ended, a second.",
            unit="reqps",
            width=12,
            queries=(
                Query(
                    rate(f"{_STAGES}_count", "llmspell_component_name"),
                    "{{llmspell_component_name}}",
                ),
            ),
        ),
        Panel(
            title="Stage time, 95th percentile",
            why="The slowest stage is where a workflow's time goes.",
            unit="s",
            width=12,
            queries=(
                Query(
                    quantile(0.95, _STAGES, "llmspell_component_name"),
                    "{{llmspell_component_name}}",
                ),
            ),
        ),
    ),
)

_SPAN_ROW = Row(
    "Every span by name, counted by the collector",
    (
        Panel(
            title="Spans",
            why="A second, of agents that send no metrics as well.",
            unit="reqps",
            queries=(Query(rate(f"{_SPANS}_calls_total", "span_name"), "{{span_name}}"),),
        ),
        Panel(
            title="Failed spans",
            why="Spans with status error, a second.",
            unit="reqps",
            queries=(
                Query(
                    rate(f"{_SPANS}_calls_total", "span_name", 'status_code="STATUS_CODE_ERROR"'),
                    "{{span_name}}",
                ),
            ),
        ),
        Panel(
            title="Span time, 95th percentile",
            why="As the spans say; differs from the agents' own metrics only by the buckets.",
            unit="s",
            queries=(
                Query(quantile(0.95, f"{_SPANS}_duration_seconds", "span_name"), "{{span_name}}"),
            ),
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
