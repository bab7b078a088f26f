"""The few shapes of panels that the dashboards are made of."""

from typing import Any

from deploy.grafana.model import Kind, Panel, Query
from deploy.grafana.queries import errors, quantile, rate


def legend(by: str) -> str:
    """A legend of the labels *by*, the most telling of which comes last there and first here."""
    return " · ".join(f"{{{{{label}}}}}" for label in reversed(by.split(", "))) if by else ""


def rates(title: str, why: str, metric: str, by: str, extra: str = "", **how: Any) -> Panel:
    """How often a counter counts, a second, by labels."""
    return _one(title, why, Query(rate(metric, by, extra), legend(by)), {"unit": "reqps"} | how)


def slowest(title: str, why: str, histogram: str, by: str, extra: str = "", **how: Any) -> Panel:
    """The 95th percentile of a histogram, by labels."""
    query = Query(quantile(0.95, histogram, by, extra), legend(by))
    return _one(title, why, query, {"unit": "s"} | how)


def failures(title: str, why: str, histogram: str, by: str) -> Panel:
    """The part of a histogram's operations that failed, by labels."""
    return _one(title, why, Query(errors(histogram, by), legend(by)), {"unit": "percentunit"})


def bands(title: str, why: str, histogram: str, width: int) -> Panel:
    """A heat map of a histogram's durations."""
    query = Query(rate(f"{histogram}_bucket", "le"), "{{le}}")
    return _one(title, why, query, {"unit": "s", "kind": Kind.HEAT, "width": width})


def number(title: str, why: str, unit: str, expr: str, **how: Any) -> Panel:
    """One number, in a low panel."""
    low = {"unit": unit, "kind": Kind.NUMBER, "width": 4, "height": 5}
    return _one(title, why, Query(expr), low | how)


def _one(title: str, why: str, query: Query, how: dict[str, Any]) -> Panel:
    return Panel(title=title, why=why, queries=(query,), **how)
