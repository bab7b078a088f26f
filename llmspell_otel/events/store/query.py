"""What is asked of the journal, and whether an event meets it."""

from collections.abc import Callable
from dataclasses import dataclass

from llmspell_otel.events.router import routes
from llmspell_otel.events.store.keys import Key, text

_FOR_EVER = 1 << 63


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are asked for; every condition that is given must hold.

    Attributes:
        patterns: One of them matches the type; none asks for all types.
        correlation_id: The run they belong to.
        since: Not before this time, nanoseconds since the Unix epoch.
        until: Before this time.
        after: Arrived after this position.
        newest_first: The latest arrivals first.
    """

    patterns: tuple[str, ...] = ()
    correlation_id: str | None = None
    since: int | None = None
    until: int | None = None
    after: int | None = None
    newest_first: bool = False

    @property
    def picks(self) -> bool:
        """Whether it depends on an event's key if it is asked for."""
        asked = (self.correlation_id, self.since, self.until)
        return bool(self.patterns) or any(value is not None for value in asked)


def wanted(query: Query) -> Callable[[Key], bool]:
    """Whether an event with that key is asked for."""
    kinds = routes(query.patterns or ("*",))
    run = None if query.correlation_id is None else text(query.correlation_id)
    since = query.since if query.since is not None else -_FOR_EVER
    until = query.until if query.until is not None else _FOR_EVER

    def met(key: Key) -> bool:
        return (
            since <= key.timestamp < until
            and (run is None or run == key.correlation_id)
            and kinds[key.event_type]
        )

    return met
