"""The metrics hook: which instruments record, and the same operations counted in this process."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import metrics
from pydantic import Field, field_validator

from llmspell_otel.builtin.description import Builtin, BuiltinSettings, Numbers, Parts, Row, Words
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.operations.ports import ports
from llmspell_otel.points import POINTS, Moment
from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.instruments import TABLE

DURATION: Final = "llmspell.operation.duration"
OTHER: Final = "(other)"
_KEPT: Final = 1024  # durations of one component that percentiles are taken of: the latest


class MetricsSettings(BuiltinSettings):
    """What is measured."""

    also: Words = ()
    """Opt-in instruments that are wanted."""
    without: Words = ()
    """Instruments that are not."""
    duration: bool = False
    """Whether one histogram, `llmspell.operation.duration`, has operations of every kind."""
    series: int = Field(200, ge=1, le=2000)
    """Components that are told apart; further ones are counted as one."""
    percentiles: Numbers = (50, 90, 95, 99)
    """Which percentiles the snapshot has."""

    @field_validator("also", "without")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        known = {row.name for row in TABLE}
        for name in given:
            if name not in known:
                raise ValueError(
                    f"{name!r} is no instrument; use some of {', '.join(sorted(known))}"
                )
        return given

    @field_validator("percentiles")
    @classmethod
    def _shares(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if not all(0 < each <= 100 for each in given):  # noqa: PLR2004 - per cent
            raise ValueError("percentiles are whole numbers from 1 to 100")
        return given


@dataclass(slots=True)
class Tally:
    """What became of the operations of one component; seconds."""

    points: dict[str, int] = field(default_factory=dict[str, int])
    ended: int = 0
    errors: int = 0
    total: float = 0.0
    longest: float = 0.0
    latest: list[float] = field(default_factory=list[float])

    def end(self, seconds: float, *, failed: bool) -> None:
        """Count an operation that ended."""
        if len(self.latest) < _KEPT:
            self.latest.append(seconds)
        else:
            self.latest[self.ended % _KEPT] = seconds
        self.ended += 1
        self.errors += failed
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def told(self, percentiles: tuple[int, ...]) -> dict[str, Any]:
        """As a plain mapping."""
        ordered = sorted(self.latest)
        duration: dict[str, float] = {}
        if ordered:
            duration = {"mean": self.total / self.ended, "max": self.longest}
            for each in percentiles:
                at = -(-each * len(ordered) // 100) - 1
                duration[f"p{each}"] = ordered[max(0, at)]
        return {
            "points": dict(self.points),
            "operations": self.ended,
            "errors": self.errors,
            "seconds": duration,
        }


class Counts:
    """The tallies of this process."""

    def __init__(self, settings: MetricsSettings) -> None:
        self.settings = settings
        self._tallies: dict[str, Tally] = {}
        self._record = self._histogram() if settings.duration else None
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def _histogram(self) -> Callable[..., None]:
        return (
            metrics.get_meter(names.SCOPE)
            .create_histogram(
                DURATION,
                "s",
                "Duration of an operation, whatever its kind.",
                explicit_bucket_boundaries_advisory=semconv.SECONDS,
            )
            .record
        )

    def __call__(self, context: HookContext) -> None:
        """Count the moment of *context*."""
        component, moment = context.component, context.point.moment
        if not self.settings.selects(component):
            return
        name = f"{component.type}:{component.name}"
        began = getattr(context.operation, "began", None)
        ends = began is not None and moment in (Moment.AFTER, Moment.ERROR)
        seconds = (time.perf_counter_ns() - began) / 1e9 if ends and began is not None else 0.0
        with self._lock:
            if name not in self._tallies and len(self._tallies) >= self.settings.series:
                name = OTHER
            tally = self._tallies.setdefault(name, Tally())
            spelling = context.point.spelling
            tally.points[spelling] = tally.points.get(spelling, 0) + 1
            if ends:
                tally.end(seconds, failed=moment is Moment.ERROR)
        if ends and self._record is not None:
            told = component.name if name != OTHER else OTHER
            labels = {names.COMPONENT_TYPE: component.type, names.COMPONENT_NAME: told}
            if context.error is not None:
                labels[semconv.ERROR_TYPE] = type(context.error).__qualname__
            self._record(seconds, labels)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """What was counted so far, by component."""
        with self._lock:
            rows = sorted(self._tallies.items())
            return {name: tally.told(self.settings.percentiles) for name, tally in rows}


class _Active:
    counts: Counts | None = None


_active: Final = _Active()


def snapshot() -> dict[str, dict[str, Any]]:
    """What was counted since the hook was switched on, by component; empty while it is off."""
    return _active.counts.snapshot() if _active.counts is not None else {}


def build(settings: MetricsSettings) -> Parts:
    """Choose the instruments, and count at every moment of operations."""
    counts = Counts(settings)

    def begin() -> None:
        _active.counts = counts
        _choose(settings.also, settings.without)

    def close() -> None:
        if _active.counts is counts:
            _active.counts = None
            _choose((), ())

    return Parts(tuple(_rows(counts)), close, begin)


def _choose(also: tuple[str, ...], without: tuple[str, ...]) -> None:
    instruments = getattr(ports.telemetry, "instruments", None)
    if instruments is not None:
        instruments.choose(also=also, without=without)


def _rows(counts: Counts) -> Iterator[Row]:
    for point in POINTS:
        if point.moment in (Moment.BEFORE, Moment.AFTER, Moment.ERROR) and not _apart(
            point.spelling
        ):
            options = HookOptions(
                name="metrics",
                priority="low",
                tags=("builtin", "metrics"),
                breaker=counts.settings.breaker_profile,
            )
            yield point.spelling, counts, options


def _apart(spelling: str) -> bool:
    return spelling.partition(":")[0] == "event"


BUILTIN: Final = Builtin(
    name="metrics",
    about="chooses the instruments, and counts operations in this process",
    settings=MetricsSettings,
    build=build,
    profiles={
        "default": {"duration": True},
        "production": {"series": 100, "breaker": "production"},
        "conservative": {"duration": True, "series": 500, "breaker": "conservative"},
    },
)
