"""Settings: from ``llmspell-otel.toml``, ``pyproject.toml`` and the environment.

The environment wins over ``llmspell-otel.toml``, which wins over ``[tool.llmspell-otel]`` of
``pyproject.toml``; sections are merged key by key. In the environment, ``LLMSPELL_OTEL_``
begins a name, and ``__`` leads into a section::

    [builtin.retry]                     LLMSPELL_OTEL_BUILTIN__RETRY__MAX_ATTEMPTS=5
    max_attempts = 5
"""

import logging
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from llmspell_otel.builtin.names import HOMES, preset_of
from llmspell_otel.builtin.registry import checked, describe, switchboard
from llmspell_otel.errors import LlmspellError, SettingsError

_logger = logging.getLogger("llmspell_otel")

PREFIX: Final = "LLMSPELL_OTEL_"
FILE: Final = "llmspell-otel.toml"
CONFIG_VARIABLE: Final = "LLMSPELL_OTEL_CONFIG"
"""The path of a file of settings that is read in the place of ``llmspell-otel.toml``."""

_WORDS: Final = {
    **dict.fromkeys(("true", "1", "on", "yes"), True),
    **dict.fromkeys(("false", "0", "off", "no"), False),
}


class Settings(BaseModel):
    """What a user can set without touching a program."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: Literal["default", "production", "conservative"] | None = None
    """Switches the built-in hooks on that belong to it, with its settings."""
    builtin: dict[str, Any] = Field(default_factory=dict)
    """Built-in hooks by name: ``true``, ``false``, or a table of settings."""
    hooks: tuple[str, ...] = ()
    """Policy files, relative to the file of settings; ``LLMSPELL_OTEL_HOOKS`` replaces them."""
    hook_timeout: float = Field(1.0, gt=0, le=3600)
    """Seconds that an asynchronous hook may take when it did not say."""
    reload: float = Field(2.0, ge=0, le=3600)
    """Every so many seconds it is looked whether a file of settings has changed; 0 for never."""


class _Variables(BaseSettings):
    """What of it the environment can say, not yet judged."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__")

    profile: str = ""
    builtin: dict[str, Any] = Field(default_factory=dict)
    hook_timeout: str = ""
    reload: str = ""


def load(
    folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Settings, list[SettingsError]]:
    """The settings that hold in *folder*, and what was wrong; what is wrong counts as not set.

    Args:
        folder: where the files are looked for; the working directory by default.
        environment: the variables; those of the process by default.
    """
    where = Path.cwd() if folder is None else folder
    given = os.environ if environment is None else environment
    problems: list[SettingsError] = []
    merged: dict[str, Any] = {}
    for layer in _layers(where, given, problems):
        merged = _merged(merged, layer)
    while True:
        try:
            return Settings.model_validate(merged), problems
        except ValidationError as error:
            for each in error.errors(include_url=False):
                name = str(each["loc"][0])
                problems.append(_problem(name, each))
                merged.pop(name, None)


def _problem(name: str, each: Any) -> SettingsError:
    if each["type"] == "extra_forbidden":
        known = ", ".join(Settings.model_fields)
        return SettingsError(name, "does not exist", f"use one of {known}")
    return SettingsError(name, f"is {each['input']!r}", str(each["msg"]).lower())


def _layers(
    folder: Path, environment: Mapping[str, str], problems: list[SettingsError]
) -> Iterator[dict[str, Any]]:
    """What each source says, the weakest first."""
    pyproject = _read(folder / "pyproject.toml", problems)
    own = pyproject.get("tool", {}).get("llmspell-otel", {})
    yield _rooted(own, folder)
    named = environment.get(CONFIG_VARIABLE)
    path = folder / (named or FILE)
    if named and not path.is_file():
        problems.append(SettingsError(CONFIG_VARIABLE, f"is {named!r}: no such file", "mend it"))
    yield _rooted(_read(path, problems), path.parent)
    yield _from_environment(environment, problems)


def _read(path: Path, problems: list[SettingsError]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(SettingsError(str(path), f"cannot be read: {error}", "mend the file"))
        return {}


def _rooted(layer: dict[str, Any], folder: Path) -> dict[str, Any]:
    """*layer*, with its policy files found from the *folder* of the file that names them."""
    named = layer.get("hooks")
    if isinstance(named, list):
        return {**layer, "hooks": [str(folder / str(path)) for path in named]}
    return layer


def _from_environment(
    environment: Mapping[str, str], problems: list[SettingsError]
) -> dict[str, Any]:
    source = EnvSettingsSource(_Variables)
    source.env_vars = {key.lower(): value for key, value in environment.items()}
    try:
        return source()
    except UnreadableVariable as error:
        problems.append(SettingsError(f"{PREFIX}BUILTIN", f"cannot be read: {error}", _MEND))
        return {}


_MEND: Final = f"write {PREFIX}BUILTIN__RETRY__MAX_ATTEMPTS=5, or a table as JSON"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, key by key; *above* wins."""
    merged = dict(below)
    for key, value in above.items():
        present = merged.get(key)
        both = isinstance(present, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(present, value) if both and isinstance(present, Mapping) else value
    return merged


def builtins_of(settings: Settings) -> Iterator[tuple[str, dict[str, Any] | SettingsError]]:
    """The built-in hooks to switch on, with their settings; or what is wrong with one."""
    wanted: dict[str, dict[str, Any] | None] = {}
    if settings.profile is not None:
        for name in HOMES:
            wanted[name] = _of_profile(name, settings.profile)
    for given, value in settings.builtin.items():
        try:
            name, own = _switched(given, value)
        except LlmspellError as error:
            yield given, SettingsError(f"builtin.{given}", "is not usable", str(error))
            continue
        wanted[name] = None if own is None else {**(wanted.get(name) or {}), **own}
    for name, chosen in wanted.items():
        if chosen is not None:
            yield name, chosen


def _of_profile(name: str, profile: str) -> dict[str, Any] | None:
    try:
        own = describe(name).profiles.get(profile)
    except ModuleNotFoundError:
        return None
    return None if own is None else dict(own)


def _switched(given: str, value: Any) -> tuple[str, dict[str, Any] | None]:
    """The name and settings that one entry asks for; None for off.

    Raises:
        UnknownBuiltinError: there is no such built-in hook.
        SettingsError: the entry is neither a switch nor a table.
    """
    preset = preset_of(given)
    if isinstance(value, Mapping):
        own = dict(value)
        on = own.pop("enabled", True)
        return preset.name, {**preset.settings, **own} if _flag(given, on) else None
    return preset.name, dict(preset.settings) if _flag(given, value) else None


def _flag(name: str, value: Any) -> bool:
    word = str(value).lower() if isinstance(value, (bool, int, str)) else ""
    if word in _WORDS:
        return _WORDS[word]
    raise SettingsError(f"builtin.{name}", f"is {value!r}", "use true, false or a table")


def apply(settings: Settings) -> list[SettingsError]:
    """Bring *settings* into force; gives what could not be."""
    from llmspell_otel.hooks.conditions import conditions

    conditions.timeout = settings.hook_timeout
    problems: list[SettingsError] = []
    for name, given in builtins_of(settings):
        if isinstance(given, SettingsError):
            problems.append(given)
            continue
        try:
            switchboard.enable(name, given)
        except SettingsError as error:
            problems.append(error)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            problems.append(SettingsError(f"builtin.{name}", "cannot be switched on", text))
    return problems


def check(name: str, given: Mapping[str, Any]) -> None:
    """Refuse what `apply` would.

    Raises:
        UnknownBuiltinError: there is no built-in hook called *name*.
        SettingsError: a setting is unknown or wrong.
    """
    preset = preset_of(name)
    checked(describe(preset.name), {**preset.settings, **given})


def start() -> tuple[str, ...]:
    """Load the settings and bring them into force; what is wrong is logged, the rest holds.

    Returns:
        The policy files that they name, unless the environment names others.
    """
    settings, problems = load()
    for problem in (*problems, *apply(settings)):
        _logger.error("llmspell: %s; it is left out, and the program goes on", problem)
    from llmspell_otel import settings_reload

    settings_reload.begin(settings)
    return () if os.environ.get(f"{PREFIX}HOOKS") else settings.hooks
