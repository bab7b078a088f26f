"""Names for the values that a test is run with."""

import re


def named(value: object) -> str:
    """What *value* looks like, the same in every process: no address in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
