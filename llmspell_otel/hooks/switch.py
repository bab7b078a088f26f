"""One look in the place of many: whether any of several points is hooked."""

import threading
from collections.abc import Callable, Iterable

from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.slots import Slot


class Switch:
    """On while any of its points is hooked, or while it is held; the slots keep it up to date."""

    __slots__ = ("__weakref__", "_followers", "_held", "_lock", "_slots", "on")

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.on = False
        self._held = False
        self._followers: tuple[Callable[[], None], ...] = ()
        self._slots = tuple(dict.fromkeys(slots))
        self.after_fork()
        watch_forks(self)
        for slot in self._slots:
            slot.listen(self.look)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def look(self) -> None:
        """Look anew; every change of a slot is followed by a look, so the last one sees all."""
        with self._lock:
            self.on = self._held or any(slot.hooks for slot in self._slots)
        for follower in self._followers:
            follower()

    def follow(self, follower: Callable[[], None]) -> None:
        """Call *follower* now, and whenever the switch may have changed."""
        self._followers = (*self._followers, follower)
        follower()

    def hold(self, *, held: bool) -> None:
        """Keep it on, hooked or not; or leave it to the hooks again."""
        self._held = held
        self.look()
