"""Is what the other dashboards show complete?"""

from deploy.grafana.model import Board, Kind, Panel, Query, Row
from deploy.grafana.queries import ENVIRONMENT, SERVICE, rate, ratio, total
from deploy.grafana.shapes import legend, rates

_INSTANCE = "service_instance_id, service_name"
_SIGNALS = {"spans": "spans", "metric_points": "points", "log_records": "records"}


def _collector(what: str, by: str, said: str = "") -> tuple[Query, ...]:
    """One query for each signal: `rate` drops the names that would tell them apart."""
    return tuple(
        Query(
            f"sum by (instance, {by}) (rate(otelcol_{what}_{signal}_total[$__rate_interval]))",
            f"{said}{name} · {{{{{by}}}}} · {{{{instance}}}}",
        )
        for signal, name in _SIGNALS.items()
    )


_AGENT_ROW = Row(
    "In the agents",
    (
        rates(
            "Events",
            "Events that subscribers were given, a second, by service.",
            "llmspell_event_processed_total",
            _INSTANCE,
            unit="ops",
        ),
        rates(
            "Events dropped",
            "Must be zero. By reason: a full queue wants a faster subscriber or more room.",
            "llmspell_event_processed_total",
            f"{_INSTANCE}, error_type",
            'error_type!=""',
            unit="ops",
        ),
        Panel(
            title="Event queues",
            why="How full the queues between publishers and subscribers are.",
            unit="percentunit",
            queries=(
                Query(
                    ratio(
                        total("llmspell_event_queue_size", _INSTANCE),
                        total("llmspell_event_queue_capacity", _INSTANCE),
                    ),
                    legend(_INSTANCE),
                ),
            ),
        ),
        Panel(
            title="Records exported",
            why="What became of spans, points and records, a second: acknowledged is the only good"
            " end. Rejected: the receiver will not have it. Lost: by the reason that is named.",
            unit="ops",
            width=12,
            queries=(
                Query(
                    rate(
                        "llmspell_export_records_total",
                        "service_name, llmspell_export_signal, llmspell_export_outcome, error_type",
                    ),
                    "{{llmspell_export_outcome}} {{llmspell_export_signal}} · {{service_name}}",
                ),
            ),
        ),
        Panel(
            title="Records waiting",
            why="In memory or on the agent's own disk; it empties when the receiver is back.",
            unit="short",
            width=12,
            queries=(
                Query(
                    total(
                        "llmspell_export_pending",
                        f"{_INSTANCE}, llmspell_export_signal, llmspell_export_state",
                    ),
                    "{{llmspell_export_signal}} {{llmspell_export_state}} · {{service_name}}",
                ),
            ),
        ),
        rates(
            "Spans that the SDK exported",
            "A second, given up ones included: what was delivered the collectors tell. Needs"
            " OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true in the agent.",
            "otel_sdk_exporter_span_exported_total",
            _INSTANCE,
            unit="ops",
            width=12,
        ),
        Panel(
            title="SDK span queue",
            why="Spans waiting in the SDK; at its capacity the oldest is dropped. Needs the same.",
            unit="short",
            width=12,
            queries=(
                Query(
                    total("otel_sdk_processor_span_queue_size", _INSTANCE),
                    "waiting · {{service_instance_id}}",
                ),
                Query(
                    total("otel_sdk_processor_span_queue_capacity", _INSTANCE),
                    "room · {{service_instance_id}}",
                ),
            ),
        ),
    ),
)

_COLLECTOR_ROW = Row(
    "In the collectors",
    (
        Panel(
            title="Accepted",
            why="What collectors took from agents, a second, by signal.",
            unit="ops",
            queries=_collector("receiver_accepted", "receiver"),
        ),
        Panel(
            title="Delivered",
            why="What destinations acknowledged, a second.",
            unit="ops",
            queries=_collector("exporter_sent", "exporter"),
        ),
        Panel(
            title="Refused, failed, lost",
            why="Must be zero. Refused: agents are to come again. Send failed: the destination"
            " refused for good. Enqueue failed: the queue or its disk is full.",
            unit="ops",
            queries=(
                *_collector("receiver_refused", "receiver", "refused "),
                *_collector("exporter_send_failed", "exporter", "send failed "),
                *_collector("exporter_enqueue_failed", "exporter", "enqueue failed "),
            ),
        ),
        Panel(
            title="Queues on disk",
            why="How full each destination's queue is; it empties when the destination is back.",
            unit="percentunit",
            queries=(
                Query(
                    "max by (instance, exporter, data_type) (otelcol_exporter_queue_size)"
                    " / (max by (instance, exporter, data_type)"
                    " (otelcol_exporter_queue_capacity) > 0)",
                    "{{exporter}} {{data_type}} · {{instance}}",
                ),
            ),
        ),
        Panel(
            title="Memory of collectors",
            why="Resident memory; the limiter refuses at 180 MiB in a sidecar.",
            unit="bytes",
            queries=(
                Query("max by (instance) (otelcol_process_memory_rss_bytes)", "{{instance}}"),
            ),
        ),
        Panel(
            title="CPU of collectors",
            why="Cores in use; compression and redaction take most of it.",
            unit="short",
            queries=(
                Query(
                    "sum by (instance) (rate(otelcol_process_cpu_seconds_total[$__rate_interval]))",
                    "{{instance}}",
                ),
            ),
        ),
    ),
)

_STORE_ROW = Row(
    "In the stores",
    (
        Panel(
            title="Targets",
            why="1: Prometheus reaches it. 0: it is down.",
            unit="none",
            kind=Kind.STATES,
            states=(("0", "down", "red"), ("1", "up", "green")),
            queries=(Query("up", "{{job}} · {{instance}}"),),
        ),
        Panel(
            title="Series in Prometheus",
            why="A steep rise is a label with too many values.",
            unit="short",
            queries=(Query("prometheus_tsdb_head_series", "{{instance}}"),),
        ),
        Panel(
            title="Samples and exemplars refused",
            why="Too old, out of order or doubled, a second: the price of a long outage.",
            unit="ops",
            queries=(
                Query(
                    "sum by (type) (rate(prometheus_tsdb_out_of_order_samples_total"
                    "[$__rate_interval]))",
                    "out of order, {{type}}",
                ),
                Query(
                    "sum by (type) (rate(prometheus_tsdb_too_old_samples_total[$__rate_interval]))",
                    "too old, {{type}}",
                ),
            ),
        ),
    ),
)

TELEMETRY = Board(
    uid="llmspell-telemetry",
    title="Agents: health of the telemetry",
    why="Whether what the other dashboards show is complete: every queue, drop and refusal.",
    choices=(ENVIRONMENT, SERVICE),
    rows=(_AGENT_ROW, _COLLECTOR_ROW, _STORE_ROW),
)
