"""Events: what happened, once, in order, to whoever asked."""

from typing import TYPE_CHECKING

from llmspell_otel.errors import EventError, EventRejectedError, JournalError, PatternError
from llmspell_otel.lazy import rooms

if TYPE_CHECKING:
    from llmspell_otel.events.api import Event
    from llmspell_otel.events.bus import EventBus, default_bus
    from llmspell_otel.events.event import Metadata, UniversalEvent, make
    from llmspell_otel.events.mailbox import Mailbox, Stream
    from llmspell_otel.events.router import Pattern
    from llmspell_otel.events.subscription import DeadLetter, Stats, Subscription

__all__ = [
    "DeadLetter",
    "Event",
    "EventBus",
    "EventError",
    "EventRejectedError",
    "JournalError",
    "Mailbox",
    "Metadata",
    "Pattern",
    "PatternError",
    "Stats",
    "Stream",
    "Subscription",
    "UniversalEvent",
    "default_bus",
    "make",
]

__getattr__ = rooms(
    __name__,
    {
        "api": ("Event",),
        "bus": (
            "EventBus",
            "default_bus",
        ),
        "event": (
            "Metadata",
            "UniversalEvent",
            "make",
        ),
        "mailbox": (
            "Mailbox",
            "Stream",
        ),
        "router": ("Pattern",),
        "subscription": (
            "DeadLetter",
            "Stats",
            "Subscription",
        ),
    },
)
