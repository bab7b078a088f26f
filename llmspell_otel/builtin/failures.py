"""Reading the errors of calls: statuses, kinds, and when a server wants to be asked again."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Any

from llmspell_otel.guard import guard

_TEXT = 10_000  # characters of an error's text that are searched


def status_of(error: object) -> int | None:
    """The HTTP status that *error* tells of."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def headers_of(error: object) -> Mapping[str, str]:
    """The headers of the response that *error* tells of; empty if there is none."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    return headers if isinstance(headers, Mapping) else {}


def retry_after(error: object, wall_clock: Callable[[], float] = time.time) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, `Retry-After`), if it does."""
    headers = headers_of(error)
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    if said is None:
        return None
    seconds = _number(said)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - wall_clock())
    except (TypeError, ValueError, OverflowError):
        return None


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def is_a(error: BaseException, names: Sequence[str]) -> bool:
    """Whether a class of *error* has one of *names*, plain or dotted, wildcards allowed."""
    for cls in type(error).__mro__[:-1]:
        dotted = f"{cls.__module__}.{cls.__qualname__}"
        if any(fnmatchcase(cls.__name__, each) or fnmatchcase(dotted, each) for each in names):
            return True
    return False


def says(error: BaseException, texts: Sequence[str]) -> bool:
    """Whether the text of *error*, or its code, has one of *texts* in it; in any case."""
    if not texts:
        return False
    text = (guard.contained("reading an error", str, error) or "")[:_TEXT]
    code = getattr(error, "code", None)
    if isinstance(code, str):
        text = f"{text} {code[:_TEXT]}"
    return any(each.casefold() in text.casefold() for each in texts)
