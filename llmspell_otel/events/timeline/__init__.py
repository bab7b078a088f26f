"""Timelines: what one run did, in what order, because of what, at what price."""

from llmspell_otel.events.timeline.model import Operation, Timeline, build
from llmspell_otel.events.timeline.page import page
from llmspell_otel.events.timeline.text import waterfall

__all__ = ["Operation", "Timeline", "build", "page", "waterfall"]
