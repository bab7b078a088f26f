"""What hooks and policies do, and what they take."""

from deploy.grafana.model import Board, Kind, Panel, Query, Row
from deploy.grafana.queries import (
    ENVIRONMENT,
    HOOKS,
    RUNS,
    SERVICE,
    quantile,
    rate,
    series,
)

_HOOK = "{{llmspell_hook_name}}"

_HOOK_ROW = Row(
    "Hooks",
    (
        Panel(
            title="What hooks answered",
            why="Executions a second by result; continue is the quiet case.",
            unit="ops",
            stacked=True,
            queries=(
                Query(rate(f"{HOOKS}_count", "llmspell_hook_result"), "{{llmspell_hook_result}}"),
            ),
        ),
        Panel(
            title="Hook time, 99th percentile",
            why="Every call that the hook watches waits this long.",
            unit="s",
            queries=(Query(quantile(0.99, HOOKS, "llmspell_hook_name"), _HOOK),),
        ),
        Panel(
            title="Share of the agents' time",
            why="Time in hooks over time in agent runs; past its budget of 1 % a hook is left out.",
            unit="percentunit",
            queries=(
                Query(
                    rate(f"{HOOKS}_sum", "llmspell_hook_name")
                    + f" / scalar({rate(f'{RUNS}_sum')} > 0)",
                    _HOOK,
                ),
            ),
        ),
        Panel(
            title="Calls stopped or steered",
            why="Executions a second that cancelled, replaced, redirected or repeated a call.",
            unit="ops",
            queries=(
                Query(
                    rate(
                        f"{HOOKS}_count",
                        "llmspell_hook_name, llmspell_hook_result",
                        'llmspell_hook_result=~"cancel|replace|redirect|retry"',
                    ),
                    "{{llmspell_hook_result}} · {{llmspell_hook_name}}",
                ),
            ),
        ),
        Panel(
            title="Failures of hooks",
            why="Hooks that raised or overran, a second. The call went on, unless it fails closed.",
            unit="ops",
            queries=(
                Query(
                    rate(f"{HOOKS}_count", "llmspell_hook_name, error_type", 'error_type!=""'),
                    "{{error_type}} · {{llmspell_hook_name}}",
                ),
            ),
        ),
        Panel(
            title="Circuit breakers",
            why="Open: the hook is left out. Half open: one probe decides.",
            unit="none",
            kind=Kind.STATES,
            states=(("0", "closed", "green"), ("1", "half open", "yellow"), ("2", "open", "red")),
            queries=(
                Query(
                    "max by (service_name, llmspell_circuit_breaker_name) (2 * "
                    + series(
                        "llmspell_circuit_breaker_status", 'llmspell_circuit_breaker_state="open"'
                    )
                    + " or on (service_name, service_instance_id, llmspell_circuit_breaker_name) "
                    + series(
                        "llmspell_circuit_breaker_status",
                        'llmspell_circuit_breaker_state="half_open"',
                    )
                    + ")",
                    "{{llmspell_circuit_breaker_name}} · {{service_name}}",
                ),
            ),
        ),
    ),
)

_POLICY_ROW = Row(
    "Policies",
    (
        Panel(
            title="Guardrail verdicts",
            why="A second, by guardrail and verdict.",
            unit="ops",
            stacked=True,
            queries=(
                Query(
                    rate(
                        "llmspell_guardrail_duration_seconds_count",
                        "llmspell_guardrail_name, llmspell_guardrail_verdict_type",
                    ),
                    "{{llmspell_guardrail_verdict_type}} · {{llmspell_guardrail_name}}",
                ),
            ),
        ),
        Panel(
            title="Rate limits",
            why="Requests a second by policy and what became of them.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate(
                        "llmspell_rate_limiting_requests_total",
                        "llmspell_rate_limiting_policy, llmspell_rate_limiting_result",
                    ),
                    "{{llmspell_rate_limiting_result}} · {{llmspell_rate_limiting_policy}}",
                ),
            ),
        ),
        Panel(
            title="Waiting for a rate limit, 95th percentile",
            why="Time in the queue of a policy before the call went on or was refused.",
            unit="s",
            queries=(
                Query(
                    quantile(
                        0.95,
                        "llmspell_rate_limiting_request_time_in_queue_seconds",
                        "llmspell_rate_limiting_policy",
                    ),
                    "{{llmspell_rate_limiting_policy}}",
                ),
            ),
        ),
        Panel(
            title="Retries",
            why="Attempts after the first, a second, by what they were for.",
            unit="ops",
            queries=(
                Query(
                    rate(
                        "llmspell_retry_attempts_total",
                        "gen_ai_operation_name, llmspell_retry_reason",
                    ),
                    "{{llmspell_retry_reason}} · {{gen_ai_operation_name}}",
                ),
            ),
        ),
        Panel(
            title="Cache",
            why="Requests to cache hooks, a second, by result.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate(
                        "llmspell_cache_requests_total",
                        "llmspell_cache_name, llmspell_cache_result",
                    ),
                    "{{llmspell_cache_result}} · {{llmspell_cache_name}}",
                ),
            ),
        ),
        Panel(
            title="Guardrail time, 95th percentile",
            why="A guardrail that asks a model is the slowest hook of all.",
            unit="s",
            queries=(
                Query(
                    quantile(
                        0.95, "llmspell_guardrail_duration_seconds", "llmspell_guardrail_name"
                    ),
                    "{{llmspell_guardrail_name}}",
                ),
            ),
        ),
    ),
)

HOOKS_BOARD = Board(
    uid="llmspell-hooks",
    title="Agents: hooks and policies",
    why="What hooks did to calls, what they cost in time, and which of them are left out.",
    choices=(ENVIRONMENT, SERVICE),
    rows=(_HOOK_ROW, _POLICY_ROW),
)
