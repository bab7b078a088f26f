"""What hooks cost beside their rivals, in one interleaved run; run it with `python -m`.

Every case is run once a round, in random order, on the thread's clock. Ratios are to B, one
call of a function that does nothing, of the same round; what is shown is their median.
Asynchronous cases run within a loop, whose start and end are not counted.
"""

import asyncio
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import blinker
import pluggy
import psygnal
import pyee

try:  # its wheel brings a top-level package `tests`, so that it is no dependency of ours
    import eventkit
except ImportError:
    eventkit = None

from llmspell_otel.hooks import Hook
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.hooks.context import Component, HookContext
from llmspell_otel.hooks.engine import fire
from llmspell_otel.hooks.registry import registry
from llmspell_otel.operations import tool
from tests.benchmarks import hooks_async

Run = Callable[[int], None] | hooks_async.AsyncRun
COUNTS = (0, 1, 8, 32)
LENIENT = BreakerProfile(
    slow_call_duration=60, open_duration=3600
)  # a preempted benchmark is no slow hook


def nothing(context: object) -> None:
    """A hook that does nothing."""


def _repeat(call: Callable[[], object]) -> Run:
    def run(times: int) -> None:
        for _ in range(times):
            call()

    return run


def _measure(times: int) -> None:
    for _ in range(times):
        nothing(None)


def _ours(count: int) -> dict[str, Run]:
    slot = registry.slot(f"custom:benchmark_{count}")
    for _ in range(count):
        Hook.register(slot.point, nothing, breaker=LENIENT)
    context = HookContext(slot.point, Component("tool", "x"), {})

    def guarded(times: int) -> None:
        for _ in range(times):
            if slot.hooks:
                fire(slot, context)

    def unguarded(times: int) -> None:
        for _ in range(times):
            fire(slot, context)

    return {
        f"guard + fire, k={count}": guarded,
        f"fire, k={count}": unguarded,
    }


def _with_context() -> dict[str, Run]:
    slot = registry.slot("custom:benchmark_context")
    Hook.register(slot.point, nothing, breaker=LENIENT)
    component = Component("tool", "x")
    return {
        "make a context": _repeat(lambda: HookContext(slot.point, component, {})),
        "make a context and fire, k=1": _repeat(
            lambda: fire(slot, HookContext(slot.point, component, {}))
        ),
    }


def _refused() -> dict[str, Run]:
    slot = registry.slot("custom:benchmark_refused")
    Hook.register(slot.point, nothing, breaker=LENIENT).breaker.trip("by the benchmark")
    context = HookContext(slot.point, Component("tool", "x"), {})
    return {"fire, its one hook refused by its breaker": _repeat(lambda: fire(slot, context))}


def _floor(count: int) -> dict[str, Run]:
    hooks = (nothing,) * count
    clock = time.perf_counter_ns

    def floor(context: object) -> None:
        began = clock()
        for hook in hooks:
            try:
                answer: Any = hook(context)  # type: ignore[func-returns-value]
            except Exception:
                continue
            if answer is not None:
                return
        if clock() - began > 1 << 60:
            raise AssertionError

    def run(times: int) -> None:
        for _ in range(times):
            floor(None)

    return {f"floor: loop, try, clock pair, k={count}": run}


_kept: list[Any] = []


class _Source:
    sent = psygnal.Signal(object)


def _rivals(count: int) -> dict[str, Run]:
    signal, emitter = blinker.Signal(), pyee.EventEmitter()
    event = eventkit.Event() if eventkit is not None else None
    source = _Source()
    spec, implementation = pluggy.HookspecMarker("x"), pluggy.HookimplMarker("x")
    manager = pluggy.PluginManager("x")

    class Spec:
        @spec
        def asked(self, context: object) -> None: ...

    class Plugin:
        @implementation
        def asked(self, context: object) -> None: ...

    manager.add_hookspecs(Spec)
    keep: list[Any] = []
    for _ in range(count):
        keep.append(lambda context: None)
        keep.append(lambda sender, **_: None)
        if event is not None:
            event += keep[-2]
        emitter.on("x", keep[-2])
        signal.connect(keep[-1])
        source.sent.connect(keep[-2], unique=False)
        manager.register(Plugin())
    asked = manager.hook.asked
    ours = {} if event is None else {f"eventkit, k={count}": _repeat(lambda: event.emit(None))}
    _kept.append(keep)  # blinker holds its receivers weakly
    return ours | {
        f"pyee, k={count}": _repeat(lambda: emitter.emit("x", None)),
        f"pluggy, k={count}": _repeat(lambda: asked(context=None)),
        f"blinker, k={count}": _repeat(lambda: signal.send(None)),
        f"psygnal, k={count}": _repeat(lambda: source.sent.emit(None)),
    }


def _decorated() -> dict[str, Run]:
    def work(one: int, two: int) -> None: ...

    decorated = tool("benchmark")(work)
    return {
        "bare call f(a, b)": _repeat(lambda: work(1, 2)),
        "the same, decorated, nobody looks": _repeat(lambda: decorated(1, 2)),
    }


def registrations(present: int) -> float:
    """Microseconds that one registration takes when *present* hooks are there."""
    point = f"custom:registered_{present}"
    registry.register_all([])
    for _ in range(present):
        Hook.register(point, nothing)
    rounds = []
    for _ in range(5):
        began = time.thread_time_ns()
        handles = [Hook.register(point, nothing) for _ in range(100)]
        rounds.append((time.thread_time_ns() - began) / 100)
        for handle in handles:
            handle.unregister()
    return min(rounds) / 1000


def cases() -> dict[str, Run]:
    """Every case by its name."""
    made: dict[str, Run] = {"B: a call that does nothing": _measure}
    for count in COUNTS:
        made |= {**_floor(count), **_ours(count), **_rivals(count)}
    made |= {
        **_with_context(),
        **_refused(),
        **_decorated(),
        **hooks_async.cases(COUNTS),
    }
    return made


async def _taken(run: Run, times: int) -> int:
    began = time.thread_time_ns()
    running = run(times)
    if running is not None:
        await running
    return time.thread_time_ns() - began


def measured(rounds: int = 15, times: int = 1000) -> dict[str, tuple[float, float]]:
    """Nanoseconds and ratio to B of every case: medians over interleaved rounds."""
    made = cases()
    order = list(made)
    base = order[0]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in order}
    for _ in range(rounds):
        random.shuffle(order)
        nanoseconds: dict[str, float] = {}
        for name in order:
            nanoseconds[name] = asyncio.run(_taken(made[name], times)) / times
        for name, value in nanoseconds.items():
            taken[name].append((value, value / nanoseconds[base]))
    registry.clear()
    return {
        name: (median(each[0] for each in values), median(each[1] for each in values))
        for name, values in taken.items()
    }


def main() -> None:
    """Print the table."""
    for name, (nanoseconds, ratio) in measured().items():
        print(f"{name:46} {nanoseconds:10.0f} ns {ratio:8.1f} B")
    for present in (0, 32, 1000, 10_000):
        print(f"register one when {present:6} are there {registrations(present):21.1f} µs")
    registry.clear()


if __name__ == "__main__":
    main()
