"""Settings that change while the program runs: what a file says now takes effect, as one change."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from llmspell_otel.builtin.registry import switchboard
from llmspell_otel.errors import LlmspellError, SettingsError
from llmspell_otel.guard import guard
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.policies import Policy, load_policy, loaded, watch
from llmspell_otel.settings import CONFIG_VARIABLE, FILE, PREFIX, Settings, builtins_of, load
from llmspell_otel.system import configuration_changed

_logger = logging.getLogger("llmspell_otel")

Stamp = tuple[int, int] | None


class Reloader:
    """Brings settings into force anew when one of their files has changed.

    What a program or a policy enabled by itself stays as it is, and so does what the files say
    as they did before.

    Args:
        settings: what is in force, as `settings.load` gave it.
        folder: where the files are looked for; the working directory by default.
        environment: the variables; those that the process has now by default.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = Path.cwd() if folder is None else folder
        self._environment = dict(os.environ if environment is None else environment)
        self._settings = settings
        self.path = self._folder / (self._environment.get(CONFIG_VARIABLE) or FILE)
        """The file of settings, beside `pyproject.toml`."""
        self._stamps = self._look()
        self._end: Callable[[], None] | None = None
        watch_forks(self)

    def after_fork(self) -> None:
        """Watch in the child too: the parent's thread stayed with the parent."""
        if self._end is not None:
            self._end = None
            self.start()

    def start(self) -> None:
        """Look for changes from now on, as often as the setting `reload` says."""
        if self._end is None and self._settings.reload > 0:
            self._end = watch([self], self._settings.reload)

    def stop(self) -> None:
        """Look for changes no more."""
        if self._end is not None:
            self._end()
            self._end = None

    def reload_if_changed(self) -> bool:
        """Take over what has changed; False where nothing has, or what changed is not usable.

        What is wrong with a changed file is logged once, and all that was in force stays.
        """
        for path in self._policies(self._settings):
            if (policy := loaded.get(Path(path).absolute())) is not None:
                guard.contained("reloading a policy", self._exchange, policy)
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            return self._reload()
        except Exception as error:
            _logger.error("llmspell: %s; the settings stay as they were", error)  # noqa: TRY400
            return False

    def _exchange(self, policy: Policy) -> None:
        try:
            policy.reload_if_changed()
        except LlmspellError as error:
            _logger.error("llmspell: %s; the earlier one stays in force", error)  # noqa: TRY400

    def _look(self) -> tuple[Stamp, ...]:
        return tuple(_stamp_of(path) for path in (self.path, self._folder / "pyproject.toml"))

    def _policies(self, settings: Settings) -> tuple[str, ...]:
        return () if self._environment.get(f"{PREFIX}HOOKS") else settings.hooks

    def _reload(self) -> bool:
        """Take over the settings as they are now.

        Raises:
            LlmspellError: they are not usable; nothing was changed.
        """
        settings, problems = load(self._folder, self._environment)
        if problems:
            raise problems[0]
        before = {name: own for name, own in builtins_of(self._settings) if isinstance(own, dict)}
        after = _wanted(settings)
        changed = {name: own for name, own in after.items() if before.get(name) != own}
        gone = [name for name in before if name not in after]
        old, new = self._policies(self._settings), self._policies(settings)
        added = _loaded_all([path for path in new if path not in old])
        try:
            switchboard.exchange(changed, gone)
        except Exception:
            _unloaded_all(added)
            raise
        left = (loaded.get(Path(path).absolute()) for path in old if path not in new)
        _unloaded_all(policy for policy in left if policy is not None)
        told = [*(f"builtin.{name}" for name in (*changed, *gone)), *self._others(settings)]
        self._take_over(settings)
        if told:
            _logger.info("llmspell: settings were reloaded: %s", ", ".join(told))
            configuration_changed(told, source="settings")
        return False  # all is said

    def _others(self, settings: Settings) -> Iterator[str]:
        for name in ("hooks", "hook_timeout"):
            if getattr(settings, name) != getattr(self._settings, name):
                yield name

    def _take_over(self, settings: Settings) -> None:
        conditions.timeout = settings.hook_timeout
        self._settings = settings


def _stamp_of(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _wanted(settings: Settings) -> dict[str, dict[str, Any]]:
    """The built-in hooks of *settings*.

    Raises:
        SettingsError: one of them is not usable.
    """
    wanted: dict[str, dict[str, Any]] = {}
    for name, own in builtins_of(settings):
        if isinstance(own, SettingsError):
            raise own
        wanted[name] = own
    return wanted


def _loaded_all(paths: list[str]) -> list[Policy]:
    """The policies at *paths*, in force: all or, if one does not load, none.

    Raises:
        PolicyError: one does not load.
    """
    done: list[Policy] = []
    try:
        done.extend(load_policy(path) for path in paths)
    except Exception:
        _unloaded_all(done)
        raise
    return done


def _unloaded_all(policies: Iterable[Policy]) -> None:
    for policy in policies:
        policy.unload()


class _Running:
    reloader: Reloader | None = None


_running: Final = _Running()


def begin(settings: Settings) -> None:
    """Watch the files of *settings*, which are in force, in the place of those before."""
    end()
    _running.reloader = Reloader(settings)
    _running.reloader.start()


def end() -> None:
    """Watch no more."""
    if _running.reloader is not None:
        _running.reloader.stop()
        _running.reloader = None
