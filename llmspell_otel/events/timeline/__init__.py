"""Timelines: what one run did, in what order, because of what, at what price."""

from typing import TYPE_CHECKING

from llmspell_otel.lazy import rooms

if TYPE_CHECKING:
    from llmspell_otel.events.timeline.document import page
    from llmspell_otel.events.timeline.model import Operation, Timeline, build
    from llmspell_otel.events.timeline.text import waterfall

__all__ = ["Operation", "Timeline", "build", "page", "waterfall"]

__getattr__ = rooms(
    __name__,
    {"model": ("Operation", "Timeline", "build"), "document": ("page",), "text": ("waterfall",)},
)
