"""Cheap identifiers: text UUIDs that sort by time."""

import random
from collections.abc import Callable, Iterator
from time import time_ns

from llmspell_otel.events.forks import in_child

_MILLISECOND = 1_000_000

# The last digits count; the random ones before them are drawn anew with each block of counts.
_DIGITS = tuple(f"{number:03x}" for number in range(1 << 12))


def _nothing() -> str:
    raise StopIteration


_random = random.Random()  # noqa: S311 - unique, not secret; seeded by the operating system
_block: tuple[str, Iterator[str]] = ("", iter(()))
_end = 0
_next: Callable[[], str] = _nothing


def uuid7() -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7) as 36 characters of lower-case text.

    Unique across threads, forks and machines, and ordered by the wall clock to the
    millisecond. Sixty-two bits are random; twelve count, so that one identifier costs a string
    addition. When the clock jumps back, the time stands still until a block of counts is used up.
    """
    if time_ns() < _end:
        try:
            return _next()  # one C call: no other thread gets in between
        except StopIteration:
            _draw()
    return _first()


def _first() -> str:
    """Begin a millisecond: the same random digits, the next count."""
    global _end, _next
    millisecond = time_ns() // _MILLISECOND
    text = f"{millisecond:012x}"
    while True:
        digits, counts = _block
        following = map(f"{text[:8]}-{text[8:]}-{digits}".__add__, counts).__next__
        try:
            made = following()
        except StopIteration:
            _draw()
            continue
        _next, _end = following, (millisecond + 1) * _MILLISECOND
        return made


def _draw() -> None:
    """Begin a block of counts with new random digits."""
    global _block
    bits = _random.getrandbits(62)
    digits = f"7{bits & 0xFFF:03x}-{0x8000 | (bits >> 12 & 0x3FFF):04x}-{bits >> 26:09x}"
    _block = (digits, iter(_DIGITS))


def _forget() -> None:
    """Draw other bits than the parent, in a forked child."""
    global _random, _end
    _random, _end = random.Random(), 0  # noqa: S311 - see above
    _draw()


in_child(_forget)
