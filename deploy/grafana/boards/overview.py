"""The fleet at a glance."""

from deploy.grafana.model import Board, Kind, Panel, Query, Row
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

_AGENT = "service_name, gen_ai_agent_name"
_MODEL = "gen_ai_provider_name, gen_ai_request_model"
_BY_AGENT = "{{gen_ai_agent_name}} · {{service_name}}"
_BY_MODEL = "{{gen_ai_request_model}} · {{gen_ai_provider_name}}"
_USAGE = "gen_ai_client_inference_usage"

_NOW = Row(
    "Now",
    (
        Panel(
            title="Agent runs",
            why="Agent and workflow runs that ended, a second, over all chosen services.",
            unit="reqps",
            kind=Kind.NUMBER,
            width=4,
            height=5,
            queries=(Query(rate(f"{RUNS}_count")),),
        ),
        Panel(
            title="Failed runs",
            why="The part of agent runs that ended with an error. The error budget is 1 %.",
            unit="percentunit",
            kind=Kind.NUMBER,
            width=4,
            height=5,
            limits=(0.01, 0.05),
            queries=(Query(errors(RUNS)),),
        ),
        Panel(
            title="Run, 95th percentile",
            why="19 of 20 runs are faster than this.",
            unit="s",
            kind=Kind.NUMBER,
            width=4,
            height=5,
            limits=(30, 120),
            queries=(Query(quantile(0.95, RUNS)),),
        ),
        Panel(
            title="Spending",
            why="What model calls cost at the present pace, an hour, by currency.",
            unit="currencyUSD",
            kind=Kind.NUMBER,
            width=4,
            height=5,
            queries=(Query(f"3600 * {rate(COST, 'llmspell_cost_currency')}"),),
        ),
        Panel(
            title="Tokens",
            why="Input and output tokens a second; input includes what came from a cache.",
            unit="short",
            kind=Kind.NUMBER,
            width=4,
            height=5,
            queries=(
                Query(
                    f"{rate(f'{_USAGE}_input_tokens_total')}"
                    f" + {rate(f'{_USAGE}_output_tokens_total')}"
                ),
            ),
        ),
        Panel(
            title="Alerts firing",
            why="Alerts of deploy/prometheus/rules that fire now.",
            unit="short",
            kind=Kind.NUMBER,
            width=4,
            height=5,
            limits=(1, 3),
            queries=(Query('count(ALERTS{alertstate="firing"}) or vector(0)'),),
        ),
    ),
)

_AGENTS = Row(
    "Agents and workflows",
    (
        Panel(
            title="Runs by agent",
            why="Runs that ended, a second. A line that stops is an agent that stopped.",
            unit="reqps",
            queries=(Query(rate(f"{RUNS}_count", _AGENT), _BY_AGENT),),
        ),
        Panel(
            title="Failed runs by agent",
            why="The part of each agent's runs that failed; zero where none did.",
            unit="percentunit",
            queries=(Query(errors(RUNS, _AGENT), _BY_AGENT),),
        ),
        Panel(
            title="Run time by agent, 95th percentile",
            why="The whole run: models, tools, hooks, waiting. A dot is one run: open its trace.",
            unit="s",
            queries=(Query(quantile(0.95, RUNS, _AGENT), _BY_AGENT),),
        ),
    ),
)

_MODELS = Row(
    "Models",
    (
        Panel(
            title="Model calls",
            why="Calls that ended, a second, with the retries inside them counted once.",
            unit="reqps",
            queries=(Query(rate(f"{CALLS}_count", _MODEL), _BY_MODEL),),
        ),
        Panel(
            title="Failed model calls by error",
            why="Errors a second by type: rate limits, timeouts and refusals want different cures.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate(f"{CALLS}_count", "gen_ai_request_model, error_type", 'error_type!=""'),
                    "{{error_type}} · {{gen_ai_request_model}}",
                ),
            ),
        ),
        Panel(
            title="Model calls failed",
            why="The part of each model's calls that failed; zero where none did.",
            unit="percentunit",
            queries=(Query(errors(CALLS, _MODEL), _BY_MODEL),),
        ),
        Panel(
            title="Model call, 95th percentile",
            why="From the request to the last chunk.",
            unit="s",
            queries=(Query(quantile(0.95, CALLS, _MODEL), _BY_MODEL),),
        ),
        Panel(
            title="Time to first chunk, 95th percentile",
            why="Streamed calls only: how long a reader waits for the first word.",
            unit="s",
            queries=(
                Query(
                    quantile(0.95, "gen_ai_client_inference_time_to_first_chunk_seconds", _MODEL),
                    _BY_MODEL,
                ),
            ),
        ),
        Panel(
            title="Time per chunk, 95th percentile",
            why="Streamed calls only: the pause between two chunks after the first.",
            unit="s",
            queries=(
                Query(
                    quantile(0.95, "gen_ai_client_inference_time_per_output_chunk_seconds", _MODEL),
                    _BY_MODEL,
                ),
            ),
        ),
        Panel(
            title="Model calls by duration",
            why="Where the calls lie: two bands are two kinds of call, a rising band is a queue.",
            unit="s",
            kind=Kind.HEAT,
            width=16,
            queries=(Query(rate(f"{CALLS}_bucket", "le"), "{{le}}"),),
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
                    _BY_AGENT,
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
