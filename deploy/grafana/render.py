"""From plain data to the JSON of Grafana, by way of Grafana's own Python types."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.grafana.boards import BOARDS
from deploy.grafana.model import Board, Choice, Kind, LogSearch, Panel, Query, Row, TraceSearch

with warnings.catch_warnings():
    # The classic builders announce their successor; classic JSON provisions in Grafana 10 to 13.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        common,
        dashboard,
        heatmap,
        logs,
        loki,
        prometheus,
        stat,
        statetimeline,
        table,
        timeseries,
    )
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.common import (
        BigValueGraphMode,
        LegendDisplayMode,
        LegendPlacement,
        StackingMode,
        TooltipDisplayMode,
        VisibilityMode,
    )
    from grafana_foundation_sdk.models.dashboard import (
        DashboardCursorSync,
        DashboardLinkType,
        DataSourceRef,
        DynamicConfigValue,
        FieldColorModeId,
        MatcherConfig,
        Threshold,
        ThresholdsMode,
        ValueMap,
        ValueMappingResult,
        VariableOption,
        VariableRefresh,
    )
    from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

METRICS = DataSourceRef("prometheus", "${metrics}")
TRACES = DataSourceRef("jaeger", "${traces}")
LOGS = DataSourceRef("loki", "${logs}")
_BUILDERS: dict[Kind, Any] = {
    Kind.LINES: timeseries.Panel,
    Kind.NUMBER: stat.Panel,
    Kind.HEAT: heatmap.Panel,
    Kind.STATES: statetimeline.Panel,
    Kind.TABLE: table.Panel,
    Kind.LOGS: logs.Panel,
}


@dataclass(frozen=True, slots=True)
class _JaegerQuery:
    """A search for Grafana's Jaeger data source, for which the SDK has no type."""

    search: TraceSearch
    ref: str

    def build(self) -> "_JaegerQuery":
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "refId": self.ref,
            "queryType": "search",
            "service": "$service",
            "operation": self.search.operation,
            "tags": self.search.tags,
            "limit": 20,
            "datasource": {"type": TRACES.type_val, "uid": TRACES.uid},
        }


def _target(query: Query | TraceSearch | LogSearch, ref: str, kind: Kind) -> Any:
    if isinstance(query, TraceSearch):
        return _JaegerQuery(query, ref)
    if isinstance(query, LogSearch):
        return loki.Dataquery().expr(query.expr).ref_id(ref).datasource(LOGS)
    target = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(METRICS)
    target = target.legend_format(query.legend or "__auto")
    if kind is Kind.NUMBER:
        return target.instant()
    if kind is Kind.HEAT:
        return target.range().format(PromQueryFormat.HEATMAP)
    return target.range().exemplar(kind is Kind.LINES and "_bucket" in query.expr)


def _thresholds(limits: tuple[float, float] | None) -> Any:
    steps = [Threshold(value=None, color="green")]
    if limits:
        steps += [Threshold(limits[0], "yellow"), Threshold(limits[1], "red")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _mappings(panel: Panel) -> list[Any]:
    named = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, text, color) in enumerate(panel.states)
    }
    return [ValueMap(options=named)]


def _lines(built: Any, panel: Panel) -> Any:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["mean", "lastNotNull"])
    )
    built = built.legend(legend).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    built = built.show_points(VisibilityMode.NEVER).fill_opacity(40 if panel.stacked else 8)
    if panel.unit == "percentunit":
        built = built.min(0)
    if panel.stacked:
        built = built.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return built


def _number(built: Any, panel: Panel) -> Any:
    return (
        built.thresholds(_thresholds(panel.limits))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(BigValueGraphMode.NONE)
    )


def _heat(built: Any, _panel: Panel) -> Any:
    color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    return built.calculate(False).color(color)


def _states(built: Any, panel: Panel) -> Any:
    return (
        built.mappings(_mappings(panel))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.FIXED))
        .merge_values(True)
    )


def _traces(built: Any, _panel: Panel) -> Any:
    return built.with_override(
        MatcherConfig(id_val="byName", options="duration"), [DynamicConfigValue("unit", "µs")]
    )


_FINISH: dict[Kind, Any] = {
    Kind.LINES: _lines,
    Kind.NUMBER: _number,
    Kind.HEAT: _heat,
    Kind.STATES: _states,
    Kind.TABLE: _traces,
}


def _panel(panel: Panel) -> Any:
    source = {TraceSearch: TRACES, LogSearch: LOGS}.get(type(panel.queries[0]), METRICS)
    built = (
        _BUILDERS[panel.kind]()
        .title(panel.title)
        .description(panel.why)
        .datasource(source)
        .span(panel.width)
        .height(panel.height)
    )
    if panel.kind is not Kind.LOGS:
        built = built.unit(panel.unit)
    for index, query in enumerate(panel.queries):
        built = built.with_target(_target(query, "ABCDEFGHIJ"[index], panel.kind))
    finish = _FINISH.get(panel.kind)
    return finish(built, panel) if finish else built


def _source(name: str, kind: str, label: str) -> Any:
    return dashboard.DatasourceVariable(name).type(kind).label(label)


def _variable(choice: Choice) -> Any:
    metric = choice.metric
    if choice.among:
        metric = (
            f"{metric[:-1]},{choice.among}}}"
            if metric.endswith("}")
            else f"{metric}{{{choice.among}}}"
        )
    built = (
        dashboard.QueryVariable(choice.name)
        .label(choice.title)
        .datasource(METRICS)
        .query(f"label_values({metric}, {choice.label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    if not choice.several:
        return built
    everything = VariableOption(text="All", value="$__all", selected=True)
    return built.multi(True).include_all(True).all_value(".*").current(everything)


def _board(board: Board) -> Any:
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.why)
        .tags(["llmspell", "agents"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .editable()
        .link(
            dashboard.DashboardLink("Agents")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["llmspell"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(_source("metrics", "prometheus", "Metrics"))
    )
    if any(not isinstance(q, Query) for q in _queries(board)):
        built = built.with_variable(_source("traces", "jaeger", "Traces"))
        built = built.with_variable(_source("logs", "loki", "Logs"))
    for choice in board.choices:
        built = built.with_variable(_variable(choice))
    for row in board.rows:
        built = _row(built, row)
    return built.build()


def _row(built: Any, row: Row) -> Any:
    built = built.with_row(dashboard.Row(row.title))
    for panel in row.panels:
        built = built.with_panel(_panel(panel))
    return built


def _queries(board: Board) -> Iterator[Query | TraceSearch | LogSearch]:
    for row in board.rows:
        for panel in row.panels:
            yield from panel.queries


def _mended(tree: dict[str, Any]) -> dict[str, Any]:
    """Repair what the SDK leaves wrong: ids, and fields that Grafana's types do not know."""
    for number, panel in enumerate(tree["panels"], start=1):
        panel["id"] = number
        panel.get("options", {}).pop("footer", None)
    for variable in tree["templating"]["list"]:
        for stray in ("auto", "auto_count", "auto_min"):
            variable.pop(stray, None)
    return tree


def rendered() -> dict[str, str]:
    """The text of every dashboard's file, by the file's name."""
    return {
        f"{board.uid}.json": json.dumps(
            _mended(json.loads(JSONEncoder(sort_keys=True).encode(_board(board)))),
            indent=1,
            sort_keys=True,
            ensure_ascii=False,
        )
        + "\n"
        for board in BOARDS
    }
