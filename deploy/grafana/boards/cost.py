"""Tokens, money, budgets."""

from deploy.grafana.model import Board, Panel, Query, Row
from deploy.grafana.queries import COST, ENVIRONMENT, SERVICE, rate, ratio, series
from deploy.grafana.shapes import legend, number, rates, slowest

_USAGE = "gen_ai_client_inference_usage"
_CACHE = "llmspell_cache"
_KIND = "llmspell_component_type"
_USD = 'llmspell_cost_currency="USD"'
_SPENT = f"sum (increase({series(COST, _USD)}[24h]))"
_BUDGET = f"scalar(llmspell:cost_budget_24h{{{_USD}}})"

_BUDGETS = Row(
    "Budget of 24 hours, in US dollars (deploy/prometheus/rules/budgets.yaml)",
    (
        number(
            "Spent in 24 hours",
            "Estimated from the counter's increase; for exact sums read the counter itself.",
            "currencyUSD",
            _SPENT,
            width=6,
        ),
        number(
            "Budget used",
            "The part of the 24-hour budget that the chosen services have spent together.",
            "percentunit",
            f"{_SPENT} / {_BUDGET}",
            width=6,
            limits=(0.7, 1),
        ),
        number(
            "Until the budget is gone",
            "At the present pace. Negative: it is gone.",
            "s",
            f"({_BUDGET} - {_SPENT}) / ({rate(COST, '', _USD)} > 0)",
            width=6,
        ),
        number(
            "Pace",
            "An hour, at the present rate.",
            "currencyUSD",
            f"3600 * {rate(COST, '', _USD)}",
            width=6,
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
        slowest(
            "Cost of one call, 95th percentile",
            "By model. A dot is one call: open its trace to see what made it dear.",
            "llmspell_inference_operation_cost",
            "gen_ai_request_model",
            _USD,
            unit="currencyUSD",
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
        rates(
            "Calls without a price",
            "Calls a second whose model is in no price table: their cost is missing above.",
            "llmspell_inference_unpriced_total",
            "gen_ai_provider_name, gen_ai_request_model",
        ),
    ),
)

_CACHED = Panel(
    title="Answered by our cache",
    why="The part of cacheable calls that a cache hook answered: they cost nothing.",
    unit="percentunit",
    queries=(
        Query(
            ratio(
                rate(
                    f"{_CACHE}_requests_total",
                    "llmspell_cache_name",
                    'llmspell_cache_result="hit"',
                ),
                rate(f"{_CACHE}_requests_total", "llmspell_cache_name"),
            ),
            "{{llmspell_cache_name}}",
        ),
    ),
)

_SAVED = Row(
    "What our cache saved",
    (
        _CACHED,
        Panel(
            title="Money saved by our cache",
            why="US dollars an hour that the calls it answered would have cost, at this rate.",
            unit="currencyUSD",
            stacked=True,
            queries=(Query(f"3600 * {rate(f'{_CACHE}_saved_cost_total', _KIND)}", legend(_KIND)),),
        ),
        rates(
            "Time saved by our cache",
            "Seconds that callers did not wait, each second: 2 spares two callers all waiting.",
            f"{_CACHE}_saved_time_seconds_total",
            _KIND,
            unit="s",
            stacked=True,
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
    rows=(_BUDGETS, _MONEY, _SAVED, _TOKENS),
)
