"""Putting the engine together: telemetry plugged in, policies loaded, adapters woven.

Everything that this takes is imported when it is called.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmspell_otel.errors import LlmspellError, PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_otel.operations.ports import Telemetry

_lock: Final = RLock()

HOOKS_VARIABLE: Final = "LLMSPELL_OTEL_HOOKS"
"""Policy files to load, separated as in PATH."""
JOURNAL_VARIABLE: Final = "LLMSPELL_OTEL_JOURNAL"
"""The folder in which every event is kept; nothing is kept without it."""
PRELOAD_VARIABLE: Final = "LLMSPELL_OTEL_PRELOAD_PRICES"
"""``true`` loads prices before the program starts, so that its first call is priced inline."""


class Weaver(Protocol):
    """Attaches adapters to the libraries that are there, and detaches them."""

    def instrument(self, *names: str) -> tuple[Any, ...]:
        """Attach the adapters called *names*, or all; gives what became of each."""
        ...

    def uninstrument(self, *names: str) -> None:
        """Detach the adapters called *names*, or all."""
        ...

    def status(self, *names: str) -> tuple[Any, ...]:
        """How the adapters stand now."""
        ...


class MissingWeaverError(LlmspellError, ImportError):
    """The package of adapters is not installed."""

    def __init__(self) -> None:
        super().__init__("no adapters are installed: pip install llmspell-otel")


def weaver() -> Weaver:
    """The weaver of the installed adapters.

    Raises:
        MissingWeaverError: there is none.
    """
    from importlib.metadata import entry_points

    for entry in entry_points(group="llmspell_weaver"):
        made: Weaver = entry.load()()
        return made
    raise MissingWeaverError


def instrument(*adapters: str, hooks: "str | Path | Iterable[str | Path]" = ()) -> tuple[Any, ...]:
    """Observe and steer the libraries called *adapters*, or all that are installed.

    Spans, log records and metrics go to the OpenTelemetry providers of the process, those set
    later included. Calling it twice is calling it once. A library that is not imported yet is
    woven when it is. Settings in ``llmspell-otel.toml``, ``pyproject.toml`` and the environment
    take effect; one that is wrong is reported and left out.

    Args:
        adapters: Names such as ``"openai"``; none means all.
        hooks: Policy files, beside those that ``LLMSPELL_OTEL_HOOKS`` names. One that cannot
            be loaded is reported, and the program goes on.

    Returns:
        What became of each adapter.
    """
    from llmspell_otel import __version__, system
    from llmspell_otel.guard import guard

    with _lock:
        _plug_in_telemetry()
        guard.contained("opening the journal", _keep_events)
        for path in (*(guard.contained("applying settings", _settings) or ()), *_paths(hooks)):
            load_hooks(path)
        woven = weaver().instrument(*adapters)
    system.started(__version__)
    return woven


def uninstrument(*adapters: str) -> None:
    """Restore the libraries called *adapters*, or all, exactly as they were.

    Operations under way end as they began. Hooks stay registered. Restoring all fires
    `SystemShutdown`.
    """
    with _lock:
        weaver().uninstrument(*adapters)
    if not adapters:
        from llmspell_otel import system

        system.stopped("uninstrumented")


def configure(
    *,
    service_name: str | None = None,
    resource: Mapping[str, str] | None = None,
    hooks: "str | Path | Iterable[str | Path]" = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[Any, ...]:
    """Set OpenTelemetry up for this process as the environment says, then `instrument`.

    For programs that have no providers of their own; it does what running under
    ``llmspell-otel run`` does. Every standard ``OTEL_*`` variable holds.

    Args:
        service_name: What ``OTEL_SERVICE_NAME`` would say.
        resource: Resource attributes, added to ``OTEL_RESOURCE_ATTRIBUTES``.
        hooks: As for `instrument`.
        environment: Further ``OTEL_*`` variables, set where they are not set yet.
    """
    from importlib.metadata import entry_points

    from llmspell_otel.guard import guard

    given = dict(environment or {})
    if service_name is not None:
        os.environ["OTEL_SERVICE_NAME"] = service_name
    if resource:
        present = os.environ.get("OTEL_RESOURCE_ATTRIBUTES")
        pairs = [present] if present else []
        pairs += [f"{key}={value}" for key, value in resource.items()]
        os.environ["OTEL_RESOURCE_ATTRIBUTES"] = ",".join(pairs)
    for key, value in given.items():
        os.environ.setdefault(key, value)
    with _lock:
        for entry in entry_points(group="llmspell_setup"):
            guard.contained("setting OpenTelemetry up", entry.load())
            break
        return instrument(hooks=hooks)


def load_hooks(path: "str | Path") -> None:
    """Load the policy at *path*; if it cannot be, say why, and go on without it."""
    import logging

    from llmspell_otel.hooks.policies import load_policy

    try:
        load_policy(path)
    except PolicyError as error:
        logging.getLogger("llmspell_otel").error("llmspell: %s", error)  # noqa: TRY400 - the message says it all


def _settings() -> tuple[str, ...]:
    """Bring settings into force, where there are any; gives the policy files that they name."""
    from llmspell_otel.settings_there import settings_there

    if not settings_there():
        return ()
    from llmspell_otel import settings

    return settings.start()


def _paths(given: "str | Path | Iterable[str | Path]") -> "list[str | Path]":
    named = [name for name in os.environ.get(HOOKS_VARIABLE, "").split(os.pathsep) if name]
    return [*named, *([given] if isinstance(given, (str, os.PathLike)) else given)]


def _plug_in_telemetry() -> None:
    from llmspell_otel.guard import guard
    from llmspell_otel.operations.ports import ports

    if ports.telemetry is None:
        ports.telemetry = guard.contained("assembling telemetry", _telemetry)


def _telemetry() -> "Telemetry":
    from llmspell_otel import __version__
    from llmspell_otel.events.introduction import introduce
    from llmspell_otel.hooks.registry import Registration, breaker_listeners
    from llmspell_otel.operations.ports import ports
    from llmspell_otel.telemetry.genai_prices import GenaiPrices
    from llmspell_otel.telemetry.pipeline import Options
    from llmspell_otel.telemetry.pipeline import Telemetry as Assembled
    from llmspell_otel.telemetry.prices import Prices

    prices = Prices(provider=GenaiPrices())
    if os.environ.get(PRELOAD_VARIABLE, "").lower() == "true":
        prices.preload_now()
    _wanted_for_models.append(prices.preload)
    telemetry = Assembled(prices=prices, options=Options(version=__version__))

    def breaker_changed(hook: Registration, _old: str, new: str, reason: str) -> None:
        telemetry.breaker_changed(hook.name, new, reason)

    breaker_listeners.append(breaker_changed)
    # While another one is plugged in, or none, this one has nothing to say.
    introduce(lambda: telemetry.bridge.described() if ports.telemetry is telemetry else None)
    return telemetry


_wanted_for_models: Final[list[Callable[[], None]]] = []


def models_ahead() -> None:
    """Get ready for model calls: a library that makes them has been imported.

    Prices take a good part of a second to load: a program without models never loads them.
    """
    from llmspell_otel.guard import guard

    while _wanted_for_models:
        guard.contained("loading prices", _wanted_for_models.pop())


_journals: Final[set[str]] = set()


def _keep_events() -> None:
    folder = os.environ.get(JOURNAL_VARIABLE)
    if folder and folder not in _journals:
        from llmspell_otel.events.journal import Journal
        from llmspell_otel.operations.ports import ports

        Journal(folder).attach(ports.bus)
        _journals.add(folder)
