"""What a dashboard is made of, as plain data."""

from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """How a panel shows its numbers."""

    LINES = "timeseries"
    NUMBER = "stat"
    HEAT = "heatmap"
    STATES = "state-timeline"
    TABLE = "table"
    LOGS = "logs"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the legend of its series; `""` where there is only one."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class TraceSearch:
    """A search in Jaeger: spans of *operation* of the chosen service that carry *tags*."""

    operation: str
    tags: str = ""


@dataclass(frozen=True, slots=True)
class LogSearch:
    """A LogQL expression, asked of the log store."""

    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: *title*, *why* (what it tells, for its information mark), *unit* and *queries*.

    *width* is in Grafana's 24 columns; *height* in its rows. *limits* are the values at which
    numbers turn yellow and red. *states* names the values of a timeline.
    """

    title: str
    why: str
    unit: str
    queries: tuple[Query | TraceSearch | LogSearch, ...]
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    limits: tuple[float, float] | None = None
    states: tuple[tuple[str, str, str], ...] = ()
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable that the reader chooses: the values of *label* on *metric*."""

    name: str
    label: str
    metric: str
    among: str = ""
    title: str = ""
    several: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    why: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = field(default=())
