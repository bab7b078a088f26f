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
from deploy.grafana.shapes import rates, slowest

_HOOK = "{{llmspell_hook_name}}"

_HOOK_ROW = Row(
    "Hooks",
    (
        rates(
            "What hooks answered",
            "Executions a second by result; continue is the quiet case.",
            f"{HOOKS}_count",
            "llmspell_hook_result",
            unit="ops",
            stacked=True,
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
        rates(
            "Calls stopped or steered",
            "Executions a second that cancelled, replaced, redirected or repeated a call.",
            f"{HOOKS}_count",
            "llmspell_hook_name, llmspell_hook_result",
            'llmspell_hook_result=~"cancel|replace|redirect|retry"',
            unit="ops",
        ),
        rates(
            "Failures of hooks",
            "Hooks that raised or overran, a second. The call went on, unless it fails closed.",
            f"{HOOKS}_count",
            "llmspell_hook_name, error_type",
            'error_type!=""',
            unit="ops",
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
        rates(
            "Guardrail verdicts",
            "A second, by guardrail and verdict.",
            "llmspell_guardrail_duration_seconds_count",
            "llmspell_guardrail_name, llmspell_guardrail_verdict_type",
            unit="ops",
            stacked=True,
        ),
        rates(
            "Rate limits",
            "Requests a second by policy and what became of them.",
            "llmspell_rate_limiting_requests_total",
            "llmspell_rate_limiting_policy, llmspell_rate_limiting_result",
            stacked=True,
        ),
        slowest(
            "Waiting for a rate limit, 95th percentile",
            "Time in the queue of a policy before the call went on or was refused.",
            "llmspell_rate_limiting_request_time_in_queue_seconds",
            "llmspell_rate_limiting_policy",
        ),
        rates(
            "Retries",
            "Attempts after the first, a second, by what they were for.",
            "llmspell_retry_attempts_total",
            "gen_ai_operation_name, llmspell_retry_reason",
            unit="ops",
        ),
        rates(
            "Cache",
            "Requests to cache hooks, a second, by result.",
            "llmspell_cache_requests_total",
            "llmspell_cache_name, llmspell_cache_result",
            stacked=True,
        ),
        slowest(
            "Guardrail time, 95th percentile",
            "A guardrail that asks a model is the slowest hook of all.",
            "llmspell_guardrail_duration_seconds",
            "llmspell_guardrail_name",
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
