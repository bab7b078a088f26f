"""The fleet at a glance."""

from deploy.grafana.model import Board, Panel, Query, Row
from deploy.grafana.queries import (
    CALLS,
    COST,
    ENVIRONMENT,
    RUNS,
    SERVICE,
    errors,
    quantile,
    rate,
    ratio,
)
from deploy.grafana.shapes import bands, failures, legend, number, rates, slowest

_AGENT = "service_name, gen_ai_agent_name"
_MODEL = "gen_ai_provider_name, gen_ai_request_model"
_USAGE = "gen_ai_client_inference_usage"

_NOW = Row(
    "Now",
    (
        number(
            "Agent runs",
            "Agent and workflow runs that ended, a second, over all chosen services.",
            "reqps",
            rate(f"{RUNS}_count"),
        ),
        number(
            "Failed runs",
            "The part of agent runs that ended with an error. The error budget is 1 %.",
            "percentunit",
            errors(RUNS),
            limits=(0.01, 0.05),
        ),
        number(
            "Run, 95th percentile",
            "19 of 20 runs are faster than this.",
            "s",
            quantile(0.95, RUNS),
            limits=(30, 120),
        ),
        number(
            "Spending",
            "What model calls cost at the present pace, an hour, by currency.",
            "currencyUSD",
            f"3600 * {rate(COST, 'llmspell_cost_currency')}",
        ),
        number(
            "Tokens",
            "Input and output tokens a second; input includes what came from a cache.",
            "short",
            f"{rate(f'{_USAGE}_input_tokens_total')} + {rate(f'{_USAGE}_output_tokens_total')}",
        ),
        number(
            "Alerts firing",
            "Alerts of deploy/prometheus/rules that fire now.",
            "short",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
            limits=(1, 3),
        ),
    ),
)

_AGENTS = Row(
    "Agents and workflows",
    (
        rates(
            "Runs by agent",
            "Runs that ended, a second. A line that stops is an agent that stopped.",
            f"{RUNS}_count",
            _AGENT,
        ),
        failures(
            "Failed runs by agent",
            "The part of each agent's runs that failed; zero where none did.",
            RUNS,
            _AGENT,
        ),
        slowest(
            "Run time by agent, 95th percentile",
            "The whole run: models, tools, hooks, waiting. A dot is one run: open its trace.",
            RUNS,
            _AGENT,
        ),
    ),
)

_MODELS = Row(
    "Models",
    (
        rates(
            "Model calls",
            "Calls that ended, a second, with the retries inside them counted once.",
            f"{CALLS}_count",
            _MODEL,
        ),
        rates(
            "Failed model calls by error",
            "Errors a second by type: rate limits, timeouts and refusals want different cures.",
            f"{CALLS}_count",
            "gen_ai_request_model, error_type",
            'error_type!=""',
            stacked=True,
        ),
        failures(
            "Model calls failed",
            "The part of each model's calls that failed; zero where none did.",
            CALLS,
            _MODEL,
        ),
        slowest(
            "Model call, 95th percentile", "From the request to the last chunk.", CALLS, _MODEL
        ),
        slowest(
            "Time to first chunk, 95th percentile",
            "Streamed calls only: how long a reader waits for the first word.",
            "gen_ai_client_inference_time_to_first_chunk_seconds",
            _MODEL,
        ),
        slowest(
            "Time per chunk, 95th percentile",
            "Streamed calls only: the pause between two chunks after the first.",
            "gen_ai_client_inference_time_per_output_chunk_seconds",
            _MODEL,
        ),
        bands(
            "Model calls by duration",
            "Where the calls lie: two bands are two kinds of call, a rising band is a queue.",
            CALLS,
            width=16,
        ),
        Panel(
            title="Model calls per run",
            why="How many model calls one agent run makes on average; a rising line is a loop.",
            unit="short",
            queries=(
                Query(
                    ratio(
                        rate("gen_ai_invoke_agent_inference_calls_sum", _AGENT),
                        rate("gen_ai_invoke_agent_inference_calls_count", _AGENT),
                    ),
                    legend(_AGENT),
                ),
            ),
        ),
    ),
)

OVERVIEW = Board(
    uid="llmspell-overview",
    title="Agents: fleet overview",
    why="Every agent and model at once: rate, errors, duration, money.",
    choices=(ENVIRONMENT, SERVICE),
    rows=(_NOW, _AGENTS, _MODELS),
)
