"""What the built-in hooks cost: ``python -m tests.benchmarks.builtin``.

A call of 1 ms and one of 500 ms (a sleep: the wait of a network), each alone and with built-in
hooks on, in turns, so that a busy machine is busy for both: all eight, the two that fail closed,
and, for what the engine costs by itself, one hook that does nothing. Printed are medians, and
the median of the ratios of neighbouring pairs; own work is the calling thread's time on the
processor, which a busy machine lengthens less. Answers are not repeated, so that the cache
always misses and keeps, which is its dearest way.
"""

import itertools
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from llmspell_otel import Hook, tool
from llmspell_otel.builtin import NAMES, available
from llmspell_otel.hooks.registry import registry

SETTINGS: dict[str, dict[str, Any]] = {
    "caching": {"include": ["*"]},
    "rate_limit": {"rate": 1e9, "burst": 1e9},
    "retry": {"tools": ["*"], "agents": ["*"]},
    "logging": {"content": True, "logger": "benchmark"},
}
_numbers = itertools.count()


def work_of(seconds: float) -> Callable[[str], str]:
    """A tool that waits that long."""

    @tool("work")
    def work(query: str) -> str:
        time.sleep(seconds)
        return query

    return work


def measured(call: Callable[[str], str]) -> complex:
    """Nanoseconds of one call: real ones, and (imaginary) those of the thread's own work."""
    query = f"question {next(_numbers)}"
    worked, began = time.thread_time_ns(), time.perf_counter_ns()
    call(query)
    return complex(time.perf_counter_ns() - began, time.thread_time_ns() - worked)


def warm(call: Callable[[str], str], rounds: int) -> complex:
    """Nanoseconds of a call that is not the first after a change."""
    for _ in range(10 if rounds > _FEW else 1):
        measured(call)
    return measured(call)


_FEW = 50


def pairs(
    call: Callable[[str], str], rounds: int, on: Callable[[], object]
) -> Iterator[tuple[complex, complex]]:
    """Nanoseconds without and with the hooks that *on* switches on."""
    for _ in range(rounds):
        switch_off()
        off = warm(call, rounds)
        on()
        yield off, warm(call, rounds)
    switch_off()


def switch_off() -> None:
    """Take every hook out."""
    Hook.disable_all_builtin()
    for hook in tuple(registry.hooks()):
        hook.unregister()


def nothing() -> None:
    """A hook that does nothing, at the points where all eight are asked."""
    for point in ("tool:validation", "tool:before_execution", "tool:after_execution"):
        Hook.register(point, lambda _: None, name="nothing")


def guards() -> None:
    """The two that fail closed, and so are never paused."""
    for name in ("security", "rate_limit"):
        Hook.enable_builtin(name, SETTINGS.get(name, {}))


def switch_on() -> tuple[str, ...]:
    """Enable every built-in hook there is."""
    names = available()
    for name in names:
        Hook.enable_builtin(name, SETTINGS.get(name, {}))
    return names


def main() -> None:
    """Print the table."""
    on = switch_on()
    print(f"Python {platform.python_version()}, {platform.machine()}; on: {', '.join(on)}")
    if missing := sorted(set(NAMES) - set(on)):
        print(f"not there: {', '.join(missing)}")
    print("call     hooks                 off median   on median   added, of it own work    ratio")
    for seconds, rounds in ((0.001, 200), (0.5, 7)):
        call = work_of(seconds)
        for name, switch in (("nothing", nothing), ("guards", guards), ("all eight", switch_on)):
            tell(seconds, name, list(pairs(call, rounds, switch)))
    in_the_long_run(
        0.001, 10_000
    )  # a verdict needs a second of the operations weighed, one in eight


def tell(seconds: float, name: str, both: list[tuple[complex, complex]]) -> None:
    """Print a row."""
    off = statistics.median(each[0].real for each in both)
    with_all = statistics.median(each[1].real for each in both)
    ratio = statistics.median(each[1].real / each[0].real for each in both)
    own = statistics.median(each[1].imag - each[0].imag for each in both) / 1e3
    added = (with_all - off) / 1e3
    print(
        f"{seconds * 1e3:4.0f} ms  {name:20} {off / 1e6:8.3f} ms {with_all / 1e6:8.3f} ms"
        f" {added:8.1f} us {own:8.1f} us {100 * (ratio - 1):8.2f} %",
        flush=True,
    )


def in_the_long_run(seconds: float, calls: int) -> None:
    """Print what is left of it once hooks that take more than their share are paused."""
    call = work_of(seconds)
    switch_off()
    off = [measured(call) for _ in range(300)]
    switch_on()
    late = [measured(call) for _ in range(calls)][-300:]
    paused = {each.name for each in registry.hooks() if str(each.breaker.state) != "closed"}
    real, was = (statistics.median(each.real for each in some) for some in (late, off))
    own = statistics.median(each.imag for each in late) - statistics.median(x.imag for x in off)
    print(
        f"{seconds * 1e3:4.0f} ms, the last 300 of {calls} calls: {real / 1e6:.3f} ms,"
        f" {100 * (real / was - 1):.2f} %, own work {own / 1e3:.1f} us;"
        f" paused: {', '.join(sorted(paused)) or 'none'}"
    )
    switch_off()


if __name__ == "__main__":
    sys.exit(main())
