"""The debugging hook: real stacks and variables in a ring, breakpoints, dumps when calls fail."""

import json
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from llmspell_otel.builtin.description import (
    Builtin,
    BuiltinSettings,
    Parts,
    Row,
    Words,
    chosen,
    place_of,
)
from llmspell_otel.builtin.rendering import SECRET_KEYS, SECRET_PATTERNS, Renderer, inert
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.points import POINTS, HookPoint, Moment

VERSION: Final = 1
"""Of the dump's format."""
_VARIABLES: Final = 50  # of one frame
_MADE: Final = "<llmspell_otel>"  # the file of functions that decorators write
_OURS: Final = ("llmspell_otel", "llmspell_instrumentation", "wrapt")


class Breakpoint(BaseModel):
    """Where to stop and look."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    point: str = "*"
    """Hook points, in their spelling, with wildcards."""
    component: str = "*"
    """Components, as ``kind:name``, with wildcards."""
    condition: Callable[[Any], bool] | None = None
    """Given the live context; stops where it is true."""
    action: Callable[[Any], object] | None = None
    """Given the live context; without one, Python's `breakpoint()` is called."""


def _when(given: object) -> object:
    return {True: "always", False: "never"}.get(given, given) if isinstance(given, bool) else given


class DebuggingSettings(BuiltinSettings):
    """What is kept, where to stop, what is dumped."""

    points: Words = ("*",)
    """Hook points that are kept, in their spelling; wildcards."""
    entries: int = Field(1000, ge=1, le=1_000_000)
    """The latest so many moments are kept."""
    frames: int = Field(12, ge=0, le=200)
    """Frames of the stack, the innermost ones; 0 for none."""
    variables: Annotated[Literal["always", "errors", "never"], BeforeValidator(_when)] = "errors"
    """When the frames' variables are kept, redacted: of failures, or of every moment (dear)."""
    content: bool = True
    """Whether inputs, outputs and error texts are kept; redacted even then."""
    max_bytes: int = Field(512, ge=16, le=65_536)
    """Bytes of UTF-8 that one value may take."""
    redact_keys: Words = SECRET_KEYS
    """Names whose values are masked."""
    redact_patterns: tuple[str, ...] = SECRET_PATTERNS
    """Regular expressions of what is masked wherever it stands."""
    min_duration: float = Field(0.0, ge=0)
    """Seconds; ended calls that were quicker are not kept, unless they failed."""
    breakpoints: tuple[Breakpoint, ...] = ()
    """Where to stop."""
    dump: Path | None = None
    """The folder that gets a file with what is kept, whenever a call fails."""
    dumps: int = Field(20, ge=1)
    """Files kept there."""


class Recorder:
    """The ring, and what fills it."""

    def __init__(self, settings: DebuggingSettings) -> None:
        self.settings = settings
        self.ring: deque[dict[str, Any]] = deque(maxlen=settings.entries)
        self._renderer = Renderer.of(
            settings.max_bytes, settings.redact_keys, settings.redact_patterns
        )
        self._written = 0
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def __call__(self, context: HookContext) -> None:
        """Keep the moment of *context*; stop if a breakpoint says so; dump if the call failed."""
        settings = self.settings
        if not settings.selects(context.component):
            return
        failed = context.point.moment is Moment.ERROR
        seconds = self._seconds(context)
        if failed or seconds is None or seconds >= settings.min_duration:
            self.ring.append(self._entry(context, seconds))
        for stop in settings.breakpoints:
            if _stops(stop, context):
                _stop(stop, context)
        if failed and settings.dump is not None:
            guard.contained("dumping what was kept", self.dump, settings.dump)

    def _entry(self, context: HookContext, seconds: float | None) -> dict[str, Any]:
        component = context.component
        entry: dict[str, Any] = {
            "time": time.time_ns(),
            "point": context.point.spelling,
            "component": inert(f"{component.type}:{component.name}"[:256]),
            "correlation": context.correlation_id,
            "attempt": context.attempt,
            "thread": threading.current_thread().name,
        }
        if seconds is not None:
            entry["seconds"] = seconds
        if context.error is not None:
            entry["error"] = type(context.error).__name__
        if self.settings.content:
            entry["data"] = {key: self._text(key, value) for key, value in context.data.items()}
        if self.settings.frames:
            when = self.settings.variables
            held = when == "always" or (when == "errors" and context.error is not None)
            entry["stack"] = [self._frame(*each, held=held) for each in self._stack(context)]
        return entry

    def _text(self, name: str, value: object) -> str:
        if self._renderer.hides(name):
            return "[redacted]"
        if isinstance(value, BaseException):
            return self._renderer.line(guard.contained("reading an error", str, value) or "")
        return self._renderer.text(value)

    def _seconds(self, context: HookContext) -> float | None:
        began = getattr(context.operation, "began", None)
        if began is None or context.point.moment not in (Moment.AFTER, Moment.ERROR):
            return None
        return float(time.perf_counter_ns() - began) / 1e9

    def _stack(self, context: HookContext) -> list[tuple[FrameType, int]]:
        """The innermost frames, the nearest last: where the error came from, or who calls."""
        error = context.error
        if isinstance(error, BaseException):
            frames = list(traceback.walk_tb(error.__traceback__))
        else:
            return self._callers(sys._getframe(2))  # noqa: SLF001 - the way to the stack
        theirs = [each for each in frames if not _is_ours(each[0])]
        return (theirs or frames)[-self.settings.frames :]

    def _callers(self, frame: FrameType | None) -> list[tuple[FrameType, int]]:
        """The frames of the program that *frame* was called from, the nearest last."""
        found: list[tuple[FrameType, int]] = []
        while frame is not None and len(found) < self.settings.frames:
            if not _is_ours(frame):
                found.append((frame, frame.f_lineno))
            frame = frame.f_back
        found.reverse()
        return found

    def _frame(self, frame: FrameType, line: int, *, held: bool) -> dict[str, Any]:
        code = frame.f_code
        told: dict[str, Any] = {
            "file": code.co_filename,
            "line": line,
            "function": code.co_qualname,
        }
        if held:
            found = list(frame.f_locals.items())[:_VARIABLES]
            told["variables"] = {name: self._text(name, value) for name, value in found}
        return told

    def find(self, *, point: str = "*", component: str = "*") -> list[dict[str, Any]]:
        """What is kept, oldest first, of points and components that fit."""
        return list(_fitting(list(self.ring), point, component))

    def dump(self, folder: Path) -> Path:
        """Write what is kept to a new file in *folder*, readable for its owner only.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._written += 1
            name = f"debug-{time.time_ns()}-{os.getpid()}-{self._written}.json"
            whole, part = folder / name, folder / f".{name}.part"
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump({"version": VERSION, "entries": list(self.ring)}, file)
            part.replace(whole)
            for old in sorted(folder.glob("debug-*.json"))[: -self.settings.dumps]:
                old.unlink(missing_ok=True)
            return whole


def _fitting(entries: list[dict[str, Any]], point: str, component: str) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if fnmatchcase(entry["point"], point) and fnmatchcase(entry["component"], component):
            yield entry


def _is_ours(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return str(module).partition(".")[0] in _OURS or frame.f_code.co_filename == _MADE


def _stops(stop: Breakpoint, context: HookContext) -> bool:
    component = f"{context.component.type}:{context.component.name}"
    if not (
        fnmatchcase(context.point.spelling, stop.point) and fnmatchcase(component, stop.component)
    ):
        return False
    if stop.condition is None:
        return True
    return bool(guard.contained("asking a breakpoint's condition", stop.condition, context))


def _stop(stop: Breakpoint, context: HookContext) -> None:
    if stop.action is not None:
        guard.contained("stopping at a breakpoint", stop.action, context)
        return
    breakpoint()  # noqa: T100 - what was asked for; `context` is at hand


class _Active:
    recorder: Recorder | None = None


_active: Final = _Active()


def recorder() -> Recorder | None:
    """What keeps the moments; None while the hook is off."""
    return _active.recorder


def build(settings: DebuggingSettings) -> Parts:
    """The same hook at every point that is kept or has a breakpoint."""
    keeps = Recorder(settings)
    _active.recorder = keeps

    def close() -> None:
        if _active.recorder is keeps:
            _active.recorder = None

    return Parts(tuple(_rows(keeps)), close)


def _rows(keeps: Recorder) -> Iterator[Row]:
    settings = keeps.settings
    for point in POINTS:
        if _wanted(settings, point):
            options = HookOptions(
                name="debugging",
                priority=place_of(point, "lowest"),
                tags=("builtin", "debugging"),
                breaker=settings.breaker_profile,
            )
            yield point.spelling, keeps, options


def _wanted(settings: DebuggingSettings, point: HookPoint) -> bool:
    if chosen(point.spelling, settings.points, ()):
        return point.spelling.partition(":")[0] != "event"
    return any(fnmatchcase(point.spelling, each.point) for each in settings.breakpoints)


BUILTIN: Final = Builtin(
    name="debugging",
    about="keeps the latest moments with stack and variables, stops at breakpoints, dumps failures",
    settings=DebuggingSettings,
    build=build,
    profiles={
        "default": {"entries": 500, "frames": 6},
        # Failures only, and nothing of what was said.
        "production": {
            "points": ("*:error",),
            "entries": 200,
            "variables": "never",
            "content": False,
            "breaker": "production",
        },
        "conservative": {"points": ("*:error",), "content": False, "breaker": "conservative"},
    },
)
