"""The few shapes of PromQL that the panels are made of."""

from deploy.grafana.model import Choice

RUNS = "gen_ai_invoke_agent_duration_seconds"
CALLS = "gen_ai_client_inference_duration_seconds"
TOOLS = "gen_ai_execute_tool_duration_seconds"
HOOKS = "llmspell_hook_duration_seconds"
COST = "llmspell_inference_cost_total"

# Every panel looks only at the chosen environments and services.
CHOSEN = 'service_name=~"$service",deployment_environment_name=~"$environment"'

ENVIRONMENT = Choice(
    name="environment",
    label="deployment_environment_name",
    metric="target_info",
    title="Environment",
)
# target_info carries the service in its job; the five promoted labels are on every other series.
SERVICE = Choice(
    name="service",
    label="service_name",
    metric='{__name__=~"gen_ai_.+_count|llmspell_.+",service_name!=""}',
    among='deployment_environment_name=~"$environment"',
    title="Service",
)


def series(metric: str, extra: str = "") -> str:
    """*metric* of the chosen services, narrowed by *extra* matchers."""
    return f"{metric}{{{CHOSEN}{',' + extra if extra else ''}}}"


def rate(metric: str, by: str = "", extra: str = "") -> str:
    """The rate a second of a counter, summed by the labels *by*."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({series(metric, extra)}[$__rate_interval]))"


def total(metric: str, by: str) -> str:
    """What a gauge says now, summed by the labels *by*."""
    return f"sum by ({by}) ({series(metric)})"


def ratio(part: str, whole: str) -> str:
    """A part of a whole; empty where the whole is zero."""
    return f"{part} / ({whole} > 0)"


def errors(histogram: str, by: str = "", extra: str = "") -> str:
    """The part of a histogram's operations that failed; zero where none did."""
    counted = f"{histogram}_count"
    failed = 'error_type!=""' + (f",{extra}" if extra else "")
    total = rate(counted, by, extra)
    return ratio(f"({rate(counted, by, failed)} or 0 * {total})", total)


def quantile(part: float, histogram: str, by: str = "", extra: str = "") -> str:
    """The *part* quantile of a histogram, by the labels *by*."""
    buckets = rate(f"{histogram}_bucket", f"le, {by}" if by else "le", extra)
    return f"histogram_quantile({part}, {buckets})"


def mean(histogram: str, by: str = "", extra: str = "") -> str:
    """The mean of a histogram."""
    return ratio(rate(f"{histogram}_sum", by, extra), rate(f"{histogram}_count", by, extra))
