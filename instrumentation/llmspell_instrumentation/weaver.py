"""Attaches adapters to their libraries and detaches them: the engine's one way in."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from threading import RLock

from llmspell_instrumentation.attachment import Attachment
from llmspell_instrumentation.joinpoint import Adapter, JoinPoint
from llmspell_instrumentation.versions import installed, satisfied

__all__ = [
    "Adapter",
    "JoinPoint",
    "State",
    "Status",
    "Weaver",
    "attach",
    "instrument",
    "status",
    "uninstrument",
]

GROUP = "llmspell_adapter"
"""The entry-point group in which adapters are found."""

_logger = logging.getLogger(__name__)


class State(StrEnum):
    """How an adapter and its library stand to each other."""

    ATTACHED = "attached"
    PENDING = "pending"
    DETACHED = "detached"
    UNSUPPORTED = "unsupported"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What became of one adapter.

    Attributes:
        adapter: its name.
        state: `pending` waits for the host to import the library.
        version: the library's installed version, None when it is not installed.
        found: the join points that are wrapped.
        pending: those whose module is not imported yet. An adapter reads its join points when its
            library is imported, or when it is asked for its status; until then there are none.
        missing: those this version of the library does not have.
        message: what is wrong and how to mend it; empty when nothing is.
    """

    adapter: str
    state: State
    version: str | None = None
    found: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    message: str = ""


def attach(adapter: Adapter) -> ExitStack:
    """Weave *adapter* into its library; closing the returned stack restores it exactly.

    A library that is not imported yet is patched when it is; closing before that cancels it.
    """
    undo = ExitStack()
    undo.callback(Attachment(adapter).attach().close)
    return undo


def discover() -> dict[str, EntryPoint]:
    """Every adapter that the installed packages offer, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


class Weaver:
    """Attaches and detaches adapters by name; safe to call from any thread.

    All instances see the same attachments: a process has one set of patched functions.
    """

    _attachments: dict[str, Attachment] = {}  # noqa: RUF012 - one process, one set of patches
    _lock = RLock()

    def instrument(self, *names: str) -> tuple[Status, ...]:
        """Attach the adapters called *names*, or all whose libraries are installed.

        Attaching twice is attaching once. Nothing is raised: each status says what happened.
        """
        known = discover()
        with self._lock:
            return tuple(
                self._attach(name, known.get(name), asked=bool(names)) for name in names or known
            )

    def uninstrument(self, *names: str) -> None:
        """Detach the adapters called *names*, or all of them."""
        with self._lock:
            for name in names or tuple(self._attachments):
                attachment = self._attachments.pop(name, None)
                if attachment is not None:
                    attachment.close()

    def status(self, *names: str) -> tuple[Status, ...]:
        """How the adapters called *names*, or all known ones, stand now."""
        known = discover()
        with self._lock:
            wanted = names or tuple({**known, **self._attachments})
            for name in wanted:
                if name in self._attachments:
                    self._attachments[name].read()
            return tuple(self._status(name, known.get(name)) for name in wanted)

    def _attach(self, name: str, entry: EntryPoint | None, *, asked: bool) -> Status:
        status = self._status(name, entry)
        if status.state is State.DETACHED and entry is not None:
            self._attachments[name] = Attachment(entry.load()).attach()
            return self._status(name, entry)
        # Without names, "everything that is here" was asked for: an absent library is no news.
        if status.message and (asked or status.state is not State.MISSING):
            _logger.warning("llmspell: %s", status.message)
        return status

    def _status(self, name: str, entry: EntryPoint | None) -> Status:
        attachment = self._attachments.get(name)
        if attachment is not None:
            return _attached(name, attachment)
        if entry is None:
            return _unknown(name)
        try:
            adapter: Adapter = entry.load()
        except Exception as error:
            message = f"the adapter {name!r} ({entry.value}) cannot be loaded: {error!r}"
            return Status(adapter=name, state=State.BROKEN, message=message)
        return _unattached(adapter)


def _attached(name: str, attachment: Attachment) -> Status:
    pending = tuple(attachment.pending)
    waiting = attachment.waits or (pending and not attachment.found)
    state = State.PENDING if waiting else State.ATTACHED
    return Status(
        adapter=name,
        state=State.BROKEN if attachment.broken else state,
        version=attachment.version,
        found=tuple(attachment.found),
        pending=pending,
        missing=tuple(attachment.missing),
        message=attachment.broken,
    )


def _unknown(name: str) -> Status:
    known = ", ".join(sorted(discover())) or "none"
    message = f"there is no adapter {name!r}; known adapters: {known}"
    return Status(adapter=name, state=State.MISSING, message=message)


def _unattached(adapter: Adapter) -> Status:
    version = installed(adapter.requires)
    state, message = State.DETACHED, ""
    if version is None:
        state = State.MISSING
        message = (
            f"{adapter.name} is not installed: "
            f"pip install 'llmspell-otel[{adapter.name}]' (needs {adapter.requires})"
        )
    elif not satisfied(adapter.requires):
        state = State.UNSUPPORTED
        message = f"{adapter.name} {version} is not supported; the adapter needs {adapter.requires}"
    return Status(adapter=adapter.name, state=state, version=version, message=message)


_weaver = Weaver()
instrument: Callable[..., tuple[Status, ...]] = _weaver.instrument
uninstrument: Callable[..., None] = _weaver.uninstrument
status: Callable[..., tuple[Status, ...]] = _weaver.status
