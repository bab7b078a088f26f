"""How a built-in hook describes itself, and the settings that all of them share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from llmspell_otel.hooks.context import Component
from llmspell_otel.hooks.options import HookFunction, HookOptions
from llmspell_otel.hooks.profiles import PROFILES, BreakerProfile
from llmspell_otel.points import HookPoint, Moment

Row = tuple[str, HookFunction, HookOptions]
"""A hook point, the function asked there, and how."""


def _listed(value: object) -> object:
    """A text of several words, as variables and command lines give it, as a list."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [word for part in value.split(",") if (word := part.strip())]
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Texts; also given as one text with commas."""
Numbers = Annotated[tuple[int, ...], BeforeValidator(_listed)]
"""Whole numbers; also given as one text with commas."""


class BuiltinSettings(BaseModel):
    """What every built-in hook can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=False)

    include: Words = ("*",)
    """Components, as ``kind:name`` with wildcards, that it looks at: ``model:gpt-*``."""
    exclude: Words = ()
    """Components that it leaves alone; they win over `include`."""
    breaker: Literal["default", "production", "conservative"] = "default"
    """The profile of its circuit breakers."""

    @cached_property
    def selects_all(self) -> bool:
        """Whether every component is one that the settings ask for."""
        return "*" in self.include and not self.exclude

    @cached_property
    def _selected(self) -> dict[tuple[str, str], bool]:
        return {}  # an attribute that is cached is read ten times as fast as a private one

    def selects(self, component: Component) -> bool:
        """Whether *component* is one that the settings ask for."""
        if self.selects_all:
            return True
        key = (component.type, component.name)
        known = self._selected.get(key)
        if known is None:
            known = chosen(f"{key[0]}:{key[1]}", self.include, self.exclude)
            if len(self._selected) < _REMEMBERED:
                self._selected[key] = known
        return known

    @property
    def breaker_profile(self) -> BreakerProfile:
        """The profile itself."""
        return PROFILES[self.breaker]


_REMEMBERED: Final = 4096  # components; an agent that makes names up must not fill the memory


def chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether *name* fits a pattern of *include* and none of *exclude*."""
    return any(fnmatchcase(name, each) for each in include) and not any(
        fnmatchcase(name, each) for each in exclude
    )


def place_of(point: HookPoint, usual: str) -> str | int:
    """The priority of a hook that only looks on: *usual*, but early where calls fail.

    Otherwise it would never see the failures that another hook retries or mends.
    """
    return _EARLY if point.moment is Moment.ERROR else usual


_EARLY: Final = -1000  # after those that guard (`highest`), before those that decide (`high`)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a built-in hook is made of, and what ends it."""

    rows: Sequence[Row]
    close: Callable[[], None] = lambda: None
    begin: Callable[[], None] = lambda: None
    """Called once its hooks are in force: until then, what was in force before still is."""
    offers: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, Any])
    """What other built-in hooks may ask of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builtin:
    """One built-in hook. Its module holds it as ``BUILTIN``."""

    name: str
    about: str
    settings: type[BuiltinSettings]
    build: Callable[[Any], Sequence[Row] | Parts]
    """Makes the hooks for settings; nothing is registered yet."""
    profiles: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict[str, Any])
    """Its settings in the profiles `default`, `production` and `conservative`; None for off."""

    def parts(self, settings: BuiltinSettings) -> Parts:
        """Make the hooks for *settings*."""
        built = self.build(settings)
        return built if isinstance(built, Parts) else Parts(tuple(built))
