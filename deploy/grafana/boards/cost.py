"""Tokens, money, budgets."""

from deploy.grafana.model import Board, Kind, Panel, Query, Row
from deploy.grafana.queries import COST, ENVIRONMENT, SERVICE, quantile, rate, ratio, series

_USAGE = "gen_ai_client_inference_usage"
_USD = 'llmspell_cost_currency="USD"'
_SPENT = f"sum (increase({series(COST, _USD)}[24h]))"
_BUDGET = f"scalar(llmspell:cost_budget_24h{{{_USD}}})"

_BUDGETS = Row(
    "Budget of 24 hours, in US dollars (deploy/prometheus/rules/budgets.yaml)",
    (
        Panel(
            title="Spent in 24 hours",
            why="Estimated from the counter's increase; for exact sums read the counter itself.",
            unit="currencyUSD",
            kind=Kind.NUMBER,
            width=6,
            height=5,
            queries=(Query(_SPENT),),
        ),
        Panel(
            title="Budget used",
            why="The part of the 24-hour budget that the chosen services have spent together.",
            unit="percentunit",
            kind=Kind.NUMBER,
            width=6,
            height=5,
            limits=(0.7, 1),
            queries=(Query(f"{_SPENT} / {_BUDGET}"),),
        ),
        Panel(
            title="Until the budget is gone",
            why="At the present pace. Negative: it is gone.",
            unit="s",
            kind=Kind.NUMBER,
            width=6,
            height=5,
            queries=(Query(f"({_BUDGET} - {_SPENT}) / ({rate(COST, '', _USD)} > 0)"),),
        ),
        Panel(
            title="Pace",
            why="An hour, at the present rate.",
            unit="currencyUSD",
            kind=Kind.NUMBER,
            width=6,
            height=5,
            queries=(Query(f"3600 * {rate(COST, '', _USD)}"),),
        ),
    ),
)

_MONEY = Row(
    "Where the money goes",
    (
        Panel(
            title="Spending by model",
            why="US dollars an hour, by the model that was asked for.",
            unit="currencyUSD",
            stacked=True,
            queries=(
                Query(
                    f"3600 * {rate(COST, 'gen_ai_request_model', _USD)}", "{{gen_ai_request_model}}"
                ),
            ),
        ),
        Panel(
            title="Spending by agent",
            why="US dollars an hour. Calls outside any agent have no name.",
            unit="currencyUSD",
            stacked=True,
            queries=(
                Query(
                    f"3600 * {rate(COST, 'service_name, gen_ai_agent_name', _USD)}",
                    "{{gen_ai_agent_name}} · {{service_name}}",
                ),
            ),
        ),
        Panel(
            title="Cost of one call, 95th percentile",
            why="By model. A dot is one call: open its trace to see what made it dear.",
            unit="currencyUSD",
            queries=(
                Query(
                    quantile(
                        0.95, "llmspell_inference_operation_cost", "gen_ai_request_model", _USD
                    ),
                    "{{gen_ai_request_model}}",
                ),
            ),
        ),
        Panel(
            title="Cost of 1,000 output tokens",
            why="All costs over all output tokens: what caching and shorter prompts bring down.",
            unit="currencyUSD",
            queries=(
                Query(
                    "1000 * "
                    + ratio(
                        rate(COST, "gen_ai_request_model", _USD),
                        rate(f"{_USAGE}_output_tokens_total", "gen_ai_request_model"),
                    ),
                    "{{gen_ai_request_model}}",
                ),
            ),
        ),
        Panel(
            title="Calls without a price",
            why="Calls a second whose model is in no price table: their cost is missing above.",
            unit="reqps",
            queries=(
                Query(
                    rate(
                        "llmspell_inference_unpriced_total",
                        "gen_ai_provider_name, gen_ai_request_model",
                    ),
                    "{{gen_ai_request_model}} · {{gen_ai_provider_name}}",
                ),
            ),
        ),
        Panel(
            title="Saved by our cache",
            why="The part of cacheable calls that a cache hook answered: they cost nothing.",
            unit="percentunit",
            queries=(
                Query(
                    ratio(
                        rate(
                            "llmspell_cache_requests_total",
                            "llmspell_cache_name",
                            'llmspell_cache_result="hit"',
                        ),
                        rate("llmspell_cache_requests_total", "llmspell_cache_name"),
                    ),
                    "{{llmspell_cache_name}}",
                ),
            ),
        ),
    ),
)

_TOKENS = Row(
    "Tokens",
    (
        Panel(
            title="Input and output tokens",
            why="A second, by model. Input includes cached tokens, output includes reasoning.",
            unit="short",
            width=12,
            queries=(
                Query(
                    rate(f"{_USAGE}_input_tokens_total", "gen_ai_request_model"),
                    "input · {{gen_ai_request_model}}",
                ),
                Query(
                    rate(f"{_USAGE}_output_tokens_total", "gen_ai_request_model"),
                    "output · {{gen_ai_request_model}}",
                ),
            ),
        ),
        Panel(
            title="Parts of them",
            why="What of the input the provider read from or wrote to its cache, and what of the"
            " output was reasoning, as parts of their totals.",
            unit="percentunit",
            width=12,
            queries=(
                Query(
                    ratio(
                        rate(f"{_USAGE}_cache_read_input_tokens_total"),
                        rate(f"{_USAGE}_input_tokens_total"),
                    ),
                    "input read from cache",
                ),
                Query(
                    ratio(
                        rate(f"{_USAGE}_cache_write_input_tokens_total"),
                        rate(f"{_USAGE}_input_tokens_total"),
                    ),
                    "input written to cache",
                ),
                Query(
                    ratio(
                        rate(f"{_USAGE}_reasoning_output_tokens_total"),
                        rate(f"{_USAGE}_output_tokens_total"),
                    ),
                    "output spent on reasoning",
                ),
            ),
        ),
    ),
)

COST_BOARD = Board(
    uid="llmspell-cost",
    title="Agents: cost and budgets",
    why="What model calls cost, who spends it, and when the budget is gone.",
    choices=(ENVIRONMENT, SERVICE),
    rows=(_BUDGETS, _MONEY, _TOKENS),
)
