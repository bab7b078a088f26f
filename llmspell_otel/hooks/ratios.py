"""Shares, thresholds and budgets as exact fractions."""

import math
from fractions import Fraction

_LARGEST_DENOMINATOR = 1_000_000


def ratio_of(value: Fraction | float | str) -> Fraction:
    """The fraction that was meant: ``0.14`` is 7/50, ``2/3`` is 2/3, ``"5%"`` is 1/20.

    A float stands for the simplest fraction it can be told from no further than its own
    rounding errors, so that sums and quotients of floats come out as they were meant.

    Raises:
        ValueError: it is no finite number.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            return Fraction(text[:-1].strip()) / 100 if text.endswith("%") else Fraction(text)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is not a number, a fraction or a percentage") from None
    if isinstance(value, float):
        return _from_float(value)
    return Fraction(value)


def _from_float(value: float) -> Fraction:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    exact = Fraction(value)
    simple = exact.limit_denominator(_LARGEST_DENOMINATOR)
    return simple if abs(simple - exact) <= 4 * Fraction(math.ulp(value)) else exact
