"""What is known of a tool beyond its function: its category, how far it is trusted, its limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmspell_otel.errors import SettingsError
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.points import MOMENTS

CATEGORIES: Final = frozenset(
    {"filesystem", "web", "api", "analysis", "data", "system", "media", "utility", "custom"}
)
SECURITY_LEVELS: Final = ("safe", "restricted", "privileged")
"""From harmless to dangerous."""
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """What one tool may use. None is no limit.

    Raises:
        SettingsError: a limit is not positive.
    """

    seconds: float | None = 60.0
    """Wall time of one call. An asynchronous call is cancelled, a synchronous one left behind."""
    cpu_seconds: float | None = 30.0
    """Processor time of one call; found out afterwards, and told."""
    memory_bytes: int | None = 100 * _MIB
    """Growth of the process during one call; found out afterwards, and told."""
    concurrent: int | None = 100
    """Calls at the same time; one more is refused."""
    operations: int | None = 1_000_000
    """Calls since the limits were set; one more is refused."""

    def __post_init__(self) -> None:
        for name in ("seconds", "cpu_seconds", "memory_bytes", "concurrent", "operations"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"limits.{name}", f"is {value!r}", "use None or more than 0")


UNLIMITED: Final = ResourceLimits(
    seconds=None, cpu_seconds=None, memory_bytes=None, concurrent=None, operations=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTraits:
    """A tool's category and security level, for hooks to go by, and its limits.

    Raises:
        SettingsError: there is no such category or level.
    """

    category: str = "custom"
    security_level: str = "safe"
    limits: ResourceLimits = UNLIMITED

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES:
            mend = f"use one of {', '.join(sorted(CATEGORIES))}"
            raise SettingsError("category", f"is {self.category!r}", mend)
        if self.security_level not in SECURITY_LEVELS:
            mend = f"use one of {', '.join(SECURITY_LEVELS)}"
            raise SettingsError("security_level", f"is {self.security_level!r}", mend)

    def metadata(self) -> Mapping[str, Any]:
        """What hooks are told of them."""
        return {"tool_category": self.category, "security_level": self.security_level}


_PLAIN: Final = ToolTraits()
_traits: Final[dict[str, ToolTraits]] = {}


def traits_of(name: str) -> ToolTraits:
    """What is known of the tool called *name*."""
    return _traits.get(name, _PLAIN)


def set_traits(name: str, traits: ToolTraits | None) -> None:
    """Say what the tool called *name* is, an adapter's tool too; None forgets it."""
    if traits is None:
        _traits.pop(name, None)
    else:
        _traits[name] = traits
    # A limit has to be held whether or not anybody is hooked.
    limited = any(each.limits != UNLIMITED for each in _traits.values())
    MOMENTS[Kind.TOOL].switch.hold(held=limited)
