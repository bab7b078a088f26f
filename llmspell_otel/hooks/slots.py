"""The hooks of one point, in order, and what a firing of it has to do."""

import threading
from bisect import insort
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, Final

from llmspell_otel.hooks.asking import Ask, several
from llmspell_otel.hooks.breaker import NEVER
from llmspell_otel.hooks.delays import take
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.order import arranged
from llmspell_otel.hooks.registration import BreakerChange, Registration
from llmspell_otel.points import HookPoint

__all__ = ["DUE", "LOOK", "BreakerChange", "Registration", "Slot", "staged"]

staged: ContextVar["list[Registration] | None"] = ContextVar("llmspell_staged", default=None)
"""Where registrations gather instead of taking effect, while a policy is loaded."""

LOOK: Final = object()
"""Answer of `Slot.ask`: nobody was asked; `look` says who is to be, one by one."""
DUE: Final = object()
"""The same, for a firing that was counted as one of those who were live."""

_order = attrgetter("order")


def _look(_context: object) -> object:
    return LOOK


def _nobody(_context: object) -> None:
    """There is nobody to ask."""


def _step(hooks: tuple[Registration, ...]) -> tuple[Ask, Any] | None:
    """How to ask *hooks* step by step; None where none of them is asynchronous."""
    if not any(hook.is_async for hook in hooks):
        return None
    from llmspell_otel.hooks.steps import stepping  # brings asyncio: dear

    found = stepping(hooks)
    return (found.begun(), found) if found is not None else None


def _wishing(hooks: Sequence[Registration]) -> tuple[Registration, ...]:
    """Those who ask for a place of their own."""
    return tuple([hook for hook in hooks if hook.before or hook.after])


def _until(due: int, ask: Ask) -> Ask:
    """*ask*, until it is time to try again a hook that is left out: when the firing begins."""
    seconds = due / 1e9

    def asked(context: Any) -> Any:
        return ask(context) if context.began < seconds else DUE

    def nobody_asked(context: Any) -> Any:
        return None if context.began < seconds else DUE

    return nobody_asked if ask is _nobody else asked


class Slot:
    """All hooks of one point. `hooks` is empty while there is nothing to do.

    A firing calls `ask`, which is one hook, or a function that asks several, or `_look` while
    something has changed and while hooks are to be timed one by one. So a firing that finds
    everything as it was looks at nothing else.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_listeners",
        "_live",
        "_lock",
        "_ordered",
        "_registered",
        "_retry_at",
        "_settled",
        "_watch",
        "_wishes",
        "ask",
        "busy",
        "entered",
        "hooks",
        "on_breaker",
        "overflowing",
        "point",
        "slow",
        "step",
    )

    def __init__(self, point: HookPoint, on_breaker: BreakerChange) -> None:
        self.point = point
        self.hooks: tuple[Registration, ...] = ()
        self.ask: Ask = _look
        """Asks the hooks, for a firing that may block where one of them suspends."""
        self.step: tuple[Ask, Any] | None = None
        """Asks them for a firing that is awaited, and what tells it to go on."""
        self.slow = float("inf")
        """Seconds; a firing at least this long may hold a slow hook."""
        self.entered = 0
        """How many firings called `ask`; adding to it is atomic, as no call stands in between."""
        self.overflowing = False
        self.on_breaker = on_breaker
        self._retry_at: int = NEVER
        """When to decide anew who is asked, on the clock of `time.perf_counter_ns`."""
        self._watch = 0
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._registered: list[Registration] = []
        self._ordered: tuple[Registration, ...] | None = None
        self._wishes: tuple[Registration, ...] = ()
        self._asked: tuple[Registration, ...] = ()
        self._live: tuple[Registration, ...] = ()
        self._settled = 0
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock, and forget the firings of the parent's other threads."""
        self._lock = threading.RLock()
        self._settle(())
        self._ask_by(_look)  # what they were stepping with is theirs for good
        self.busy = False
        """Whether a firing is within `ask`: others take the way that counts their depth."""

    # -- who is registered

    def add(self, hooks: Sequence[Registration]) -> None:
        """Put *hooks* in at their places.

        Raises:
            HookError: their `before` and `after` go round in a circle; none is put in.
        """
        self.exchange((), hooks)

    def exchange(self, old: Sequence[Registration], new: Sequence[Registration]) -> None:
        """Take *old* out and put *new* in; every firing sees the one or the other.

        Raises:
            HookError: the order that they ask for goes round in a circle; nothing is changed.
        """
        with self._lock:
            self.check_order(new, old)
            self._settle(())
            for hook in old:
                if hook.slot is self and hook in self._registered:
                    self._registered.remove(hook)
                hook.slot = None
            for hook in new:
                insort(self._registered, hook, key=_order)
            if wishes := self._wishes + _wishing(new):
                self._wishes = tuple(hook for hook in wishes if hook.slot is self)
            self._ordered = None
            self.invalidate()

    def remove(self, hook: Registration) -> bool:
        """Take *hook* out; firings under way still end as they began."""
        with self._lock:
            if hook.slot is not self:
                return False
            self.exchange((hook,), ())
            return True

    def registered(self) -> tuple[Registration, ...]:
        """Every hook of the point in order, also those that are off."""
        with self._lock:
            if self._ordered is None:
                hooks = self._registered
                self._ordered = arranged(hooks, self.point) if self._wishes else tuple(hooks)
            return self._ordered

    def check_order(self, new: Sequence[Registration], old: Sequence[Registration]) -> None:
        """Refuse *new*, in the place of *old*, if their order goes round in a circle.

        Raises:
            HookError: it does.
        """
        if new and (self._wishes or _wishing(new)):
            gone = {hook.id for hook in old}
            stay = [hook for hook in self._registered if hook.id not in gone]
            arranged(sorted([*stay, *new], key=_order), self.point)

    # -- who is asked

    def invalidate(self) -> None:
        """Have the next firing look again at who is on."""
        with self._lock:
            self._settle(())
            self._asked = ()
            self._ask_by(_look)
            self._retry_at = 0 if self._registered else NEVER
            if not self._registered:
                self.hooks = ()
            elif not self.hooks:
                # Non-empty, so that the guard at a call site sees that there may be work.
                self.hooks = (self._registered[0],)
            self._tell()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* now, and whenever `hooks` may have become empty or stopped being so."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
            listener()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    @property
    def watch(self) -> int:
        """How many firings are still to be timed hook by hook."""
        return self._watch

    @watch.setter
    def watch(self, firings: int) -> None:
        with self._lock:
            self._watch = firings
            self._settle(())
            self._ask_by(_look)

    def look(self, now: int) -> tuple[Registration, ...]:
        """Who is asked by a firing that asks one by one."""
        with self._lock:
            if now >= self._retry_at:
                self._decide(now)
            if self._watch:
                self._watch -= 1
            elif self.ask is _look:
                self._go_on()
            return self._asked

    def _decide(self, now: int) -> None:
        """Decide who is asked: those on, whose breaker is closed or may try again."""
        self._settle(())
        take(now / 1e9)
        self.overflowing = False
        self._retry_at = NEVER
        asked: list[Registration] = []
        on = [hook for hook in self.registered() if hook.enabled]
        for hook in on:
            retry_at = hook.admit(now)
            if retry_at is not None:
                self._retry_at = min(self._retry_at, retry_at)
            if retry_at is None or hook.on_failure == "cancel":
                asked.append(hook)
        self._asked = tuple(asked)
        self._ask_by(_look)
        # Whoever waits for his time keeps the point from looking empty until it has come.
        self.hooks = self._asked or tuple(on[:1] if self._retry_at != NEVER else ())
        self.slow = min((hook.slow for hook in asked), default=float("inf"))
        self._tell()

    def _go_on(self) -> None:
        """From now on firings need not look."""
        hooks = self._asked
        ask: Ask = _nobody
        if hooks:
            ask = several(hooks) if hooks[1:] else hooks[0].call
        step = None
        if self._retry_at == NEVER:
            step = _step(hooks)
        else:
            ask = _until(self._retry_at, ask)
        self._settle(hooks)
        self._ask_by(ask, step)

    def _ask_by(self, ask: Ask, step: tuple[Ask, Any] | None = None) -> None:
        self.ask, self.step = ask, step

    def renew(self, used: Ask, stepping: Any) -> None:
        """Have the hooks stepped through anew, as the one that was *used* is spent."""
        with self._lock:
            if self.step is not None and self.step[0] is used:
                self.step = stepping.begun(), stepping

    # -- how often

    def counted_for(self, hook: Registration) -> int:
        """How many firings counted by `entered` alone asked *hook*."""
        with self._lock:
            return self.entered - self._settled if hook.live else 0

    def _settle(self, live: tuple[Registration, ...]) -> None:
        """Give those who were live their count; from now on `entered` counts for *live*."""
        entered = self.entered
        for hook in self._live:
            hook.counted += entered - self._settled
            hook.live = False
        self._settled = entered
        self._live = live
        for hook in live:
            hook.live = True
