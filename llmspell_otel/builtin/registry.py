"""The switchboard: built-in hooks, switched on and off by name."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from llmspell_otel.builtin.names import HOMES, preset_of
from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.registry import Registration, registry
from llmspell_otel.hooks.slots import staged

if TYPE_CHECKING:
    from llmspell_otel.builtin.description import Builtin, BuiltinSettings, Parts

NAMES: Final = tuple(HOMES)
"""The built-in hooks there are."""


@dataclass(frozen=True, slots=True)
class Enabled:
    """A built-in hook in force."""

    name: str
    settings: "BuiltinSettings"
    hooks: tuple[Registration, ...]
    parts: "Parts" = field(repr=False)

    @property
    def in_force(self) -> bool:
        """Whether its hooks are asked: a policy that was refused or taken out took them along."""
        return any(hook.slot and hook in hook.slot.registered() for hook in self.hooks)


class Switchboard:
    """Which built-in hooks are on, and with which settings."""

    def __init__(self) -> None:
        self._enabled: dict[str, Enabled] = {}
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = RLock()

    def enable(self, name: str, given: Mapping[str, Any]) -> Enabled:
        """Switch *name* on; its old hooks are exchanged for the new ones in one step.

        Raises:
            UnknownBuiltinError: there is no such built-in hook.
            SettingsError: a setting is unknown or wrong; what was in force stays.
        """
        preset = preset_of(name)
        builtin = describe(preset.name)
        settings = checked(builtin, {**preset.settings, **given})
        with self._lock:
            present = self._enabled.get(builtin.name)
            if present is not None and present.settings == settings and present.in_force:
                return present
            parts = builtin.parts(settings)
            hooks = _put_in(parts, present)
            self._enabled[builtin.name] = Enabled(builtin.name, settings, hooks, parts)
            parts.begin()
            if present is not None:
                present.parts.close()
            return self._enabled[builtin.name]

    def exchange(self, wanted: Mapping[str, Mapping[str, Any]], gone: Iterable[str]) -> None:
        """Switch *wanted* on with their settings and *gone* off: all of it at once, or nothing.

        Raises:
            UnknownBuiltinError: there is no such built-in hook.
            SettingsError: a setting is unknown or wrong.
        """
        described = {name: describe(preset_of(name).name) for name in wanted}
        usable = {name: checked(described[name], given) for name, given in wanted.items()}
        with self._lock:
            fresh: list[Enabled] = []
            try:
                for name, settings in usable.items():
                    parts = described[name].parts(settings)
                    hooks = tuple(_gathered(parts))
                    fresh.append(Enabled(described[name].name, settings, hooks, parts))
                ended = [each for name in (*wanted, *gone) if (each := self._enabled.get(name))]
                registry.exchange(
                    [hook for each in ended for hook in each.hooks if hook.slot is not None],
                    [hook for each in fresh for hook in each.hooks],
                )
            except Exception:
                for each in fresh:
                    each.parts.close()
                raise
            for each in ended:
                del self._enabled[each.name]
                each.parts.close()
            self._enabled.update((each.name, each) for each in fresh)
            for each in fresh:
                each.parts.begin()

    def disable(self, name: str) -> bool:
        """Switch *name* off; False if it was not on.

        Raises:
            UnknownBuiltinError: there is no such built-in hook.
        """
        known = preset_of(name).name
        with self._lock:
            present = self._enabled.pop(known, None)
            if present is None:
                return False
            was = present.in_force
            registry.exchange([hook for hook in present.hooks if hook.slot is not None], ())
            present.parts.close()
            return was

    def enabled(self) -> dict[str, Enabled]:
        """What is on, by name."""
        with self._lock:
            return {name: each for name, each in self._enabled.items() if each.in_force}


def describe(name: str) -> "Builtin":
    """The description of the built-in hook called *name* in `HOMES`."""
    found: Builtin = import_module(HOMES[name]).BUILTIN
    return found


def checked(builtin: "Builtin", given: Mapping[str, Any]) -> "BuiltinSettings":
    """The settings of *builtin* with *given* ones.

    Raises:
        SettingsError: a setting is unknown or wrong; it is named, with what would be right.
    """
    from pydantic import ValidationError

    try:
        return builtin.settings.model_validate(dict(given))
    except ValidationError as error:
        raise _wrong(builtin, error.errors(include_url=False)[0]) from None


def _wrong(builtin: "Builtin", problem: Mapping[str, Any]) -> SettingsError:
    where = ".".join(str(step) for step in problem["loc"] if isinstance(step, (str, int)))
    name = f"builtin.{builtin.name}" + (f".{where}" if where else "")
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(builtin.settings.model_fields))
        return SettingsError(name, "does not exist", f"use one of {known}")
    text = repr(problem["input"])
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    mend = str(problem["msg"]).removeprefix("Value error, ")
    return SettingsError(name, f"is {shown}", mend[:1].lower() + mend[1:])


_SHOWN: Final = 80  # characters of a wrong value that a message quotes


def _put_in(parts: "Parts", present: Enabled | None) -> tuple[Registration, ...]:
    """Register the hooks of *parts* in the place of those *present*."""
    hooks = _gathered(parts)
    old = [hook for hook in (present.hooks if present else ()) if hook.slot is not None]
    policy = staged.get()
    if policy is None:
        registry.exchange(old, hooks)
    else:
        policy.extend(hooks)
        # A policy that is loaded anew exchanges its own hooks, all in one step.
        registry.exchange([hook for hook in old if not _of_a_policy(hook)], ())
    return tuple(hooks)


def _gathered(parts: "Parts") -> list[Registration]:
    """The hooks of *parts*, not in force yet."""
    hooks: list[Registration] = []
    token = staged.set(hooks)
    try:
        registry.register_all(parts.rows)
    finally:
        staged.reset(token)
    return hooks


def _of_a_policy(hook: Registration) -> bool:
    policies = sys.modules.get("llmspell_otel.hooks.policies")
    return policies is not None and any(hook in each.hooks for each in policies.loaded.values())


switchboard: Final = Switchboard()
"""The built-in hooks of this process."""


def enable(name: str, /, **settings: Any) -> Enabled:
    """Switch the built-in hook *name* on, or exchange its settings.

    Raises:
        UnknownBuiltinError: there is no such built-in hook; the error says what to use.
        SettingsError: a setting is unknown or wrong.
    """
    return switchboard.enable(name, settings)


def disable(name: str) -> bool:
    """Switch *name* off; False if it was not on.

    Raises:
        UnknownBuiltinError: there is no such built-in hook.
    """
    return switchboard.disable(name)


def disable_all() -> int:
    """Switch every built-in hook off; gives how many were on."""
    return sum(switchboard.disable(name) for name in NAMES)


def is_enabled(name: str) -> bool:
    """Whether *name* is on.

    Raises:
        UnknownBuiltinError: there is no such built-in hook.
    """
    return preset_of(name).name in switchboard.enabled()


def enabled() -> dict[str, Enabled]:
    """What is on, by name."""
    return switchboard.enabled()


def available() -> tuple[str, ...]:
    """The built-in hooks that this installation has."""
    return tuple(name for name, home in HOMES.items() if find_spec(home) is not None)


def name_of(name: str) -> str:
    """The name here of what other documentation calls *name*.

    Raises:
        UnknownBuiltinError: there is no such built-in hook.
    """
    return preset_of(name).name
