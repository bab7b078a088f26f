"""Identifiers: text UUIDs that sort by time."""

import random
from functools import cache
from hashlib import blake2b
from time import time_ns

from llmspell_otel.events.forks import in_child

_MILLISECOND = 1_000_000
_ORIGIN_BITS = 42
_SEQUENCE = (1 << 32) - 1
_VERSION, _VARIANT = 7 << 76, 2 << 62
_TIME, _HIGH, _LOW = (1 << 48) - 1, (1 << 12) - 1, (1 << 62) - 1

_random = random.Random()  # noqa: S311 - unique, not secret; seeded by the operating system


def uuid7(timestamp: int | None = None) -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7) as 36 characters of lower-case text.

    Its time is now, or *timestamp*, nanoseconds since the Unix epoch.

    Seventy-four bits are random: unique across threads, forks and machines, whatever the clock
    does, and ordered by the wall clock to the millisecond.
    """
    bits = _random.getrandbits(32 + _ORIGIN_BITS)
    return _text(time_ns() if timestamp is None else timestamp, bits)


def derived(timestamp: int, sequence: int, origin: int) -> str:
    """The UUIDv7 of what *origin* made as its number *sequence* at the time *timestamp*.

    Args:
        timestamp: Nanoseconds since the Unix epoch.
        sequence: Its lowest 32 bits order the identifiers of one millisecond.
        origin: Forty-two bits that no other process has.
    """
    return _text(timestamp, (sequence & _SEQUENCE) << _ORIGIN_BITS | origin)


@cache
def origin() -> int:
    """What tells this process from all others: random bits, other ones in a forked child.

    A cached function, because calling it takes a third of what a function of Python takes.
    """
    return _random.getrandbits(_ORIGIN_BITS)


def fingerprint(identifier: str) -> int:
    """An origin for what came with an identifier of its own, the same wherever it is read."""
    digest = blake2b(identifier.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - _ORIGIN_BITS)


def time_of(identifier: str) -> int:
    """When the UUIDv7 *identifier* was made, in nanoseconds since the Unix epoch; 0 for others."""
    try:
        return int(identifier[:8] + identifier[9:13], 16) * _MILLISECOND
    except ValueError:
        return 0


def _text(timestamp: int, bits: int) -> str:
    """Seventy-four *bits* under the time of a UUIDv7."""
    millisecond = timestamp // _MILLISECOND & _TIME
    high, low = bits >> 62 & _HIGH, bits & _LOW
    digits = f"{millisecond << 80 | _VERSION | high << 64 | _VARIANT | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _forget() -> None:
    """Draw other bits than the parent, in a forked child."""
    global _random
    _random = random.Random()  # noqa: S311 - see above
    origin.cache_clear()


in_child(_forget)
