"""Whether a library is installed in a version that an adapter was made for.

`packaging` decides; but it takes longer to import than all adapters together, and the plain
cases, ``openai>=2,<4`` and version ``3.54.0``, need nothing of it.
"""

import operator
import re
from collections.abc import Callable
from importlib import metadata
from itertools import zip_longest
from typing import Any, Final

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RELEASE: Final = r"\d+(?:\.\d+)*"
_BOUND: Final = re.compile(rf"(>=|<=|<|>)\s*({_RELEASE})")
_PLAIN: Final = re.compile(rf"{_RELEASE}\Z", re.ASCII)
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
    ">": operator.gt,
}


def installed(requires: str) -> str | None:
    """The version of the distribution that *requires* names, or None when it is missing."""
    name = _NAME.match(requires.strip())
    try:
        return metadata.version(name[0]) if name else None
    except metadata.PackageNotFoundError:
        return None


def satisfied(requires: str) -> bool:
    """Whether the installed version is one that *requires* allows."""
    version = installed(requires)
    return version is not None and allows(requires, version)


def allows(requires: str, version: str) -> bool:
    """Whether *requires* allows *version*, pre-releases included."""
    name = _NAME.match(requires)
    bounds = [part.strip() for part in requires[name.end() :].split(",")] if name else []
    found = [_BOUND.fullmatch(bound) for bound in bounds]
    if _PLAIN.match(version) and all(found):
        return all(bound and _holds(version, *bound.groups()) for bound in found)
    from packaging.requirements import Requirement

    return Requirement(requires).specifier.contains(version, prereleases=True)


def _holds(version: str, sign: str, limit: str) -> bool:
    # 2 and 2.0.0 are the same release.
    pairs = list(zip_longest(_numbers(version), _numbers(limit), fillvalue=0))
    return _COMPARE[sign]([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".")]
