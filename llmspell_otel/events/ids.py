"""Cheap identifiers: text UUIDs that sort by time."""

import itertools
import random
from time import time_ns

from llmspell_otel.events.forks import in_child

_MILLISECOND = 1_000_000
_BLOCK = 0xFFFF
_NONE = (0, 0, 0, "")

# The last four digits count; everything before them is drawn anew each millisecond.
_DIGITS = tuple(f"{number:04x}" for number in range(_BLOCK + 1))
_random = random.SystemRandom().getrandbits
_count = itertools.count(1).__next__
_current: tuple[int, int, int, str] = _NONE


def uuid7() -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7) as 36 characters of lower-case text.

    Unique across threads, forks and machines, and ordered by the wall clock to the
    millisecond. Fifty-eight bits are random, drawn from the operating system once a
    millisecond; sixteen count, so that one identifier costs a string addition.
    """
    now = time_ns()
    number = _count()
    start, end, limit, prefix = _current
    if not (start <= now < end and number < limit):
        prefix = _draw(now, number)
    return prefix + _DIGITS[number & _BLOCK]


def _draw(now: int, number: int) -> str:
    """Draw the first 32 characters of a new millisecond, or of a new block of counts."""
    global _current
    millisecond = now // _MILLISECOND
    bits = _random(58)
    prefix = (
        f"{millisecond >> 16:08x}-{millisecond & 0xFFFF:04x}-7{bits & 0xFFF:03x}-"
        f"{0x8000 | (bits >> 12 & 0x3FFF):04x}-{bits >> 26:08x}"
    )
    start = millisecond * _MILLISECOND
    # A frozen clock must not hand out a count twice: a prefix ends with its block.
    _current = (start, start + _MILLISECOND, (number | _BLOCK) + 1, prefix)
    return prefix


def _forget() -> None:
    """Drop the parent's random bits, so that a forked child draws its own."""
    global _current
    _current = _NONE


in_child(_forget)
