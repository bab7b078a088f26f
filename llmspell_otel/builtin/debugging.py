"""The debugging hook: real stacks and variables in a ring, breakpoints, dumps when calls fail."""

import json
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
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
from llmspell_otel.builtin.rendering import (
    MASK,
    SECRET_KEYS,
    SECRET_PATTERNS,
    Renderer,
    Told,
    inert,
)
from llmspell_otel.builtin.state import PerOperation
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


_Frame = tuple[str, int, str, dict[str, str] | None]
"""File, line, function, and the variables as text where they are kept."""


# A tuple of texts and numbers: the garbage collector leaves those alone, and many are kept.
_Moment = tuple[
    int, str, str, str, int, str, float | None, str | None, dict[str, object] | None,
    tuple[_Frame, ...] | None,
]  # fmt: skip
"""Time, point, component, correlation, attempt, thread, seconds, error, data, stack."""


class Recorder:
    """The ring, and what fills it.

    A moment is copied when it comes, within its bounds, and written, redacted, when somebody
    reads it: of the many that are kept, few ever are.
    """

    def __init__(self, settings: DebuggingSettings) -> None:
        self.settings = settings
        self._kept: deque[_Moment] = deque(maxlen=settings.entries)
        self._renderer = Renderer.of(
            settings.max_bytes, settings.redact_keys, settings.redact_patterns
        )
        self._stacks: PerOperation[tuple[_Frame, ...]] = PerOperation()
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
        moment = context.point.moment
        failed = moment is Moment.ERROR
        seconds = _seconds(context) if failed or moment is Moment.AFTER else None
        if failed or seconds is None or seconds >= settings.min_duration:
            self._kept.append(self._moment(context, seconds))
        for stop in settings.breakpoints:
            if _stops(stop, context):
                _stop(stop, context)
        if failed and settings.dump is not None:
            guard.contained("dumping what was kept", self.dump, settings.dump)

    # -- when it comes

    def _moment(self, context: HookContext, seconds: float | None) -> _Moment:
        error = context.error
        return (
            time.time_ns(),
            context.point.spelling,
            f"{context.component.type}:{context.component.name}"[:256],
            context.correlation_id,
            context.attempt,
            threading.current_thread().name,
            seconds,
            None if error is None else type(error).__name__,
            self._copied(context.data) if self.settings.content else None,
            self._stack(context, error),
        )

    def _copied(self, data: Mapping[str, Any]) -> dict[str, object]:
        taken = self._renderer.taken
        return {
            key: Told(self._raised(value)) if isinstance(value, BaseException) else taken(value)
            for key, value in data.items()
        }

    def _raised(self, error: BaseException) -> str:
        return self._renderer.line(guard.contained("reading an error", str, error) or "")

    def _stack(self, context: HookContext, error: Any) -> tuple[_Frame, ...] | None:
        """The innermost frames, the nearest last: where the error came from, or who calls."""
        if not self.settings.frames:
            return None
        when = self.settings.variables
        held = when == "always" or (when == "errors" and error is not None)
        if not isinstance(error, BaseException):
            return self._calling(context, held=held)
        frames = list(traceback.walk_tb(error.__traceback__))
        theirs = [each for each in frames if not _is_ours(each[0])]
        told = (theirs or frames)[-self.settings.frames :]
        return tuple(self._frame(*each, held=held) for each in told)

    def _calling(self, context: HookContext, *, held: bool) -> tuple[_Frame, ...]:
        """Who made the call of *context*: looked up once, as long as its caller waits for it."""
        handed_over = getattr(context.operation, "handed_over", False)
        known = None if held or handed_over else self._stacks.get(context)
        if known is None:
            known = self._callers(sys._getframe(4), held=held)  # noqa: SLF001 - the way to the stack
            if not (held or handed_over):
                self._stacks.set(context, known)
        return known

    def _callers(self, frame: FrameType | None, *, held: bool) -> tuple[_Frame, ...]:
        """The frames of the program that *frame* was called from, the nearest last."""
        found: list[_Frame] = []
        room, known = self.settings.frames, _files.get
        while frame is not None and room:
            ours = known(frame.f_code.co_filename)
            if not (_is_ours(frame) if ours is None else ours):
                found.append(self._frame(frame, frame.f_lineno, held=held))
                room -= 1
            frame = frame.f_back
        return tuple(reversed(found))

    def _frame(self, frame: FrameType, line: int, *, held: bool) -> _Frame:
        code = frame.f_code
        variables = None
        if held:
            variables = {
                name: self._text(name, value)
                for name, value in list(frame.f_locals.items())[:_VARIABLES]
            }
        return code.co_filename, line, code.co_qualname, variables

    # -- when it is read

    @property
    def ring(self) -> list[dict[str, Any]]:
        """What is kept, oldest first."""
        return [self._entry(each) for each in tuple(self._kept)]

    def _entry(self, moment: _Moment) -> dict[str, Any]:
        began, point, component, correlation, attempt, thread, seconds, error, data, stack = moment
        entry: dict[str, Any] = {
            "time": began,
            "point": point,
            "component": inert(component),
            "correlation": correlation,
            "attempt": attempt,
            "thread": thread,
        }
        if seconds is not None:
            entry["seconds"] = seconds
        if error is not None:
            entry["error"] = error
        if data is not None:
            entry["data"] = {key: self._text(key, value) for key, value in data.items()}
        if stack is not None:
            entry["stack"] = [_written(each) for each in stack]
        return entry

    def _text(self, name: str, value: object) -> str:
        if self._renderer.hides(name):
            return MASK
        if isinstance(value, BaseException):
            return self._raised(value)
        return self._renderer.text(value)

    def find(self, *, point: str = "*", component: str = "*") -> list[dict[str, Any]]:
        """What is kept, oldest first, of points and components that fit."""
        return list(_fitting(self.ring, point, component))

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
                json.dump({"version": VERSION, "entries": self.ring}, file)
            part.replace(whole)
            for old in sorted(folder.glob("debug-*.json"))[: -self.settings.dumps]:
                old.unlink(missing_ok=True)
            return whole


def _fitting(entries: list[dict[str, Any]], point: str, component: str) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if fnmatchcase(entry["point"], point) and fnmatchcase(entry["component"], component):
            yield entry


def _seconds(context: HookContext) -> float | None:
    began = getattr(context.operation, "began", None)
    return None if began is None else float(time.perf_counter_ns() - began) / 1e9


def _written(frame: _Frame) -> dict[str, Any]:
    file, line, function, variables = frame
    told: dict[str, Any] = {"file": file, "line": line, "function": function}
    if variables is not None:
        told["variables"] = variables
    return told


def _is_ours(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    module = frame.f_globals.get("__name__", "")
    ours = file == _MADE or str(module).partition(".")[0] in _OURS
    if file[:1] != "<":  # several modules may have code that was made of such a text
        _files[file] = ours
    return ours


_files: Final[dict[str, bool]] = {}
"""Which files are ours; as many as the program has."""


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

    def begin() -> None:
        _active.recorder = keeps

    def close() -> None:
        if _active.recorder is keeps:
            _active.recorder = None

    return Parts(tuple(_rows(keeps)), close, begin)


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
