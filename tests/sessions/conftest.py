"""Every test here starts without hooks and subscribers, and leaves none."""

from tests.kit.clean_engine import events, hook, nothing_left, seen

__all__ = ["events", "hook", "nothing_left", "seen"]
