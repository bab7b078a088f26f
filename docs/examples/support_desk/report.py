"""What each built-in hook has to show when the program ends: hooks and events of its own."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from llmspell_otel import Event, Hook, HookContext
from llmspell_otel.builtin import debugging, enabled, metrics
from llmspell_otel.builtin.audit import verify
from llmspell_otel.builtin.cost_tracking import totals

counted: Counter[str] = Counter()


class Lines(logging.Handler):
    """Counts the lines of the logging hook."""

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        counted["lines"] += 1
        counted["failures"] += record.levelno >= logging.ERROR


logger = logging.getLogger("llmspell_otel.calls")
logger.setLevel(logging.INFO)
logger.addHandler(Lines())


@Event.on("*:*complete")
def decided(event: Any) -> None:
    """Count what hooks decided about the operation that ended."""
    for decision in event.data.get("decisions", ()):
        for attribute in ("llmspell.cache.result", "llmspell.rate_limiting.result"):
            counted[f"{decision['hook']} {decision.get('attributes', {}).get(attribute)}"] += 1


@Event.on("retry:scheduled")
def again(_: Any) -> None:
    """Count the attempts that were made again."""
    counted["retries"] += 1


@Hook.on("system:shutdown", priority="lowest")
def report(_: HookContext) -> None:
    """Print a line for each built-in hook that is on."""
    on = enabled()
    print("\nbuilt-in hooks")
    for name, told in _told(on):
        if name in on:
            print(f"  {name:<14} {told}")
    print()


def _told(on: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "logging", f"{counted['lines']} lines, {counted['failures']} of them failures"
    ended = metrics.snapshot().values()
    operations = sum(each["operations"] for each in ended)
    yield "metrics", f"{operations} operations of {len(ended)} components counted and timed"
    ring, settings = debugging.recorder(), {name: each.settings for name, each in on.items()}
    dumps = settings["debugging"].dump if "debugging" in settings else None
    written = len(list(dumps.glob("*.json"))) if dumps else 0
    yield "debugging", f"{len(ring.ring) if ring else 0} moments kept, {written} dumps of failures"
    trail = settings["security"].audit if "security" in settings else None
    yield "security", f"audit trail {_audited(trail)}" if trail else "no audit trail asked for"
    yield "caching", f"{counted['caching hit']} hit, {counted['caching miss']} miss"
    yield "rate_limit", f"{counted['rate_limit acquired']} calls let through"
    yield "retry", f"{counted['retries']} more attempts"
    spent = totals("agent")
    yield (
        "cost_tracking",
        ", ".join(f"{agent} ${by['USD'].cost}" for agent, by in spent.items()),
    )


def _audited(trail: Any) -> str:
    checked = verify(trail)
    return f"of {checked.entries} entries, {'whole' if checked.whole else checked.problem}"
