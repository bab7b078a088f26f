"""What providers say is left of their own limits: buckets that their answers fill in.

Read are ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` (OpenAI, Azure, Groq and others)
and ``anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}``.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Literal

from llmspell_otel.builtin.bucket import Grant, Limit, settle
from llmspell_otel.hooks.forks import watch_forks

_Kind = Literal["requests", "tokens"]
_KINDS: Final[tuple[_Kind, ...]] = ("requests", "tokens")
_KEPT: Final = 2048  # two for each model
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST: Final = 86_400.0  # seconds that a provider's word is believed


class Allowances:
    """By model: how much its provider will take, as far as its last answer told.

    A provider's reset is when its bucket is whole again; between, it fills evenly.

    Args:
        clock: monotonic seconds.
        wall_clock: seconds since the epoch, for providers that tell a time.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._left: dict[tuple[str, _Kind], tuple[float, float, Limit]] = {}
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def learn(self, model: str, headers: Mapping[str, str]) -> None:
        """Take in what an answer's *headers* say."""
        for kind in _KINDS:
            told = self._told(kind, headers)
            with self._lock:
                if told is not None and ((model, kind) in self._left or len(self._left) < _KEPT):
                    left, limit = told
                    self._left[model, kind] = (left, self._clock(), limit)
                elif headers:
                    self._left.pop((model, kind), None)

    def _told(self, kind: _Kind, headers: Mapping[str, str]) -> tuple[float, Limit] | None:
        """What is left and how it fills; None where nothing is told, or nothing is used up."""
        left = _number(_told_of(kind, "remaining", headers))
        reset = self._seconds(_told_of(kind, "reset", headers))
        if left is None or reset is None or not 0 < reset <= _LONGEST:
            return None
        whole = _number(_told_of(kind, "limit", headers)) or left + 1
        return (left, Limit((whole - left) / reset, whole)) if whole > left else None

    def _seconds(self, text: str | None) -> float | None:
        if text is None:
            return None
        told = span(text)
        if told is not None:
            return told
        try:
            return datetime.fromisoformat(text).timestamp() - self._wall_clock()
        except (ValueError, OverflowError):
            return None

    def take(self, model: str, tokens: float, max_wait: float = 0.0) -> Grant | None:
        """Take one request of *tokens*, or say how long to wait; None where nothing is known."""
        if not self._left:
            return None
        with self._lock:
            now = self._clock()
            asked = {
                kind: (settle(left, now - stamp, amount, limit, max_wait), limit)
                for kind, amount in (("requests", 1.0), ("tokens", tokens))
                if (known := self._left.get((model, kind))) is not None  # type: ignore[arg-type] # the words are _Kind's
                for left, stamp, limit in (known,)
            }
            worst = max((grant for grant, _ in asked.values()), key=_wait, default=None)
            if worst is not None and worst.granted:
                for kind, (grant, limit) in asked.items():
                    self._left[model, kind] = (grant.tokens, now, limit)  # type: ignore[index]
            return worst


def _wait(grant: Grant) -> float:
    return grant.wait


def _told_of(kind: _Kind, what: str, headers: Mapping[str, str]) -> str | None:
    return headers.get(f"x-ratelimit-{what}-{kind}") or headers.get(
        f"anthropic-ratelimit-{kind}-{what}"
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def span(text: str) -> float | None:
    """``6m0.5s``, ``20ms`` or ``12`` in seconds; None for anything else."""
    short = text.strip()[:32]
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", short)
    if not parts or "".join(number + unit for number, unit in parts) != short:
        return _number(short)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
