"""From what a subscriber asks for to the subscription that does it."""

from collections.abc import Mapping
from typing import Literal, TypedDict, get_args

from llmspell_otel.errors import EventError
from llmspell_otel.events.delivery import ThreadSubscription
from llmspell_otel.events.limits import Limits, Overflow
from llmspell_otel.events.mailbox import Mailbox
from llmspell_otel.events.store.conditions import Conditions, meets
from llmspell_otel.events.subscription import (
    Handler,
    Host,
    InlineSubscription,
    Order,
    Subscription,
    Where,
    is_async,
)

Delivery = Literal["inline", "queued"]
MAX_ERRORS = 100


class Options(TypedDict, total=False):
    """What a subscriber may ask for.

    Attributes:
        delivery: `inline` runs the handler in the publisher's context, `queued` in its own. Plain
            functions are inline if nothing is said, async functions queued.
        where: Delivers only events for which this is true: a function of the event, or conditions
            on its fields, as `{"data.amount": (">=", 500)}`.
        name: How logs, events and lists call the subscription.
        priority: Lower is served first among the subscribers of one event; 0 is usual.
        max_errors: Failures in a row after which it is removed; None for never. 100 if not said.
        rate_limit: Events a second; more are dropped.
        capacity: Queued: events that may wait. 10,000 if not said.
        overflow: Queued: what gives way when the queue is full. `drop_oldest` if not said.
        block_timeout: Queued: seconds that `block` makes a publisher wait at most. 1 if not said.
        high_water: Queued: share of the capacity at which backpressure starts. 0.8 if not said.
        low_water: Queued: share at which it is relieved. 0.2 if not said.
    """

    delivery: Delivery
    where: Where | Conditions
    name: str
    priority: int
    max_errors: int | None
    rate_limit: float
    capacity: int
    overflow: Overflow
    block_timeout: float
    high_water: float
    low_water: float


_QUEUE = ("capacity", "overflow", "block_timeout", "high_water", "low_water")


def build(
    host: Host, patterns: tuple[str, ...], handler: Handler | None, age: int, options: Options
) -> Subscription:
    """Make the subscription that *options* describe.

    Raises:
        EventError: an option is unknown, out of range, or does not go with the others.
    """
    _check(handler, options)
    name = options.get("name") or str(getattr(handler, "__qualname__", f"subscription-{age}"))
    rank = (options.get("priority", 0), age)
    order = Order(name, rank, options.get("max_errors", MAX_ERRORS))
    subscription = _kind(host, patterns, handler, order, options)
    if rate := options.get("rate_limit"):
        subscription.at_most(rate)
    if where := options.get("where"):
        subscription.only(meets(where) if isinstance(where, Mapping) else where)
    return subscription


def _kind(
    host: Host,
    patterns: tuple[str, ...],
    handler: Handler | None,
    order: Order,
    options: Options,
) -> Subscription:
    limits = Limits(**{key: options[key] for key in _QUEUE if key in options})  # type: ignore[literal-required]
    if handler is None:
        return Mailbox(host, patterns, order, limits)
    if is_async(handler):
        from llmspell_otel.events.looped import LoopSubscription

        return LoopSubscription(host, patterns, order, limits, handler)
    if options.get("delivery") == "queued":
        return ThreadSubscription(host, patterns, order, limits, handler)
    return InlineSubscription(host, patterns, order, handler)


def _check(handler: Handler | None, options: Options) -> None:
    if unknown := set(options) - Options.__annotations__.keys():
        known = ", ".join(sorted(Options.__annotations__))
        raise EventError(f"option {min(unknown)!r}", "is unknown", f"use one of {known}")
    if handler is not None and not callable(handler):
        raise EventError("handler", f"{handler!r} cannot be called", "give a function")
    delivery = options.get("delivery")
    if delivery not in {None, *get_args(Delivery)}:
        raise EventError("delivery", f"is {delivery!r}", "say 'inline' or 'queued'")
    if delivery == "inline" and (handler is None or is_async(handler)):
        what = "an async handler" if handler else "a subscription without a handler"
        raise EventError(what, "cannot be served inline", "say delivery='queued'")
    queued = delivery == "queued" or handler is None or is_async(handler)
    if not queued and (stray := [key for key in _QUEUE if key in options]):
        raise EventError(f"option {stray[0]!r}", "needs a queue", "say delivery='queued'")
