"""Events: what happened, once, in order, to whoever asked."""

from llmspell_otel.errors import EventError, EventRejectedError, JournalError, PatternError
from llmspell_otel.events.api import Event, default_bus
from llmspell_otel.events.bus import EventBus
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
