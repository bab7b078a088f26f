"""What the telemetry of this process says of itself, kept beside its events."""

from collections.abc import Callable
from typing import Any, Final

RESOURCE: Final = "journal:resource"
"""The type of the event that tells it. It holds for every event of the same `origin`."""

Asked = Callable[[], dict[str, Any] | None]


def _nothing() -> dict[str, Any] | None:
    return None


_ask: Asked = _nothing


def introduce(ask: Asked) -> None:
    """Have *ask* tell from now on; it answers None as long as it knows nothing, never raises.

    It is asked from the thread that keeps events, before each commit.
    """
    global _ask
    _ask = ask


def told() -> dict[str, Any] | None:
    """What is known now; None if nothing is."""
    return _ask()
