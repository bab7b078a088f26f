"""The collector is killed, for as long as it may be, under programs of ours; and Jaeger, too.

It takes more than a minute in which nothing much happens, so it runs beside other tests.
"""

import json
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

from tests.deploy import servers
from tests.deploy.sending import stored
from tests.deploy.servers import Server

WORKER = Path(__file__).with_name("worker.py")
AWAY: Final = (2, 20, 60)
"""Seconds that a collector is away after `kill -9`; all three at once, each with its own."""
LATE: Final = 2.0
"""Seconds that the programs run before any server does."""
JAEGER_AWAY: Final = (12, 10)
"""When Jaeger is killed in all this, and for how long: for one collector both are away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a program said when all was over, and what the store has."""

    service: str
    books: dict[str, Any]
    stored: list[str]


@dataclass
class _Trial:
    away: int
    collector: Server
    program: "subprocess.Popen[str]"

    @property
    def service(self) -> str:
        return f"outage-{self.away}"

    def outcome(self, query: int) -> Outcome:
        """Let the program end, hear its books, and read the store."""
        out, _ = self.program.communicate("\n", timeout=90)
        books = json.loads(out)
        everything = set(books["ids"])
        servers.eventually(lambda: set(stored(query, self.service)) >= everything, 60, 0.5)
        return Outcome(service=self.service, books=books, stored=stored(query, self.service))


def _trial(folder: Path, away: int, jaeger: int, stack: ExitStack) -> _Trial:
    collector, ports = servers.collector(
        folder / "collector", "single-host.yaml", LLMSPELL_JAEGER=f"127.0.0.1:{jaeger}"
    )
    stack.callback(collector.kill)
    command = [sys.executable, str(WORKER), str(ports["OTLP_GRPC"])]
    program = subprocess.Popen(
        [*command, f"outage-{away}", str(folder / "spool")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(servers.DEPLOY.parent), "PATH": "/usr/bin:/bin"},
    )
    stack.enter_context(program)
    stack.callback(program.kill)
    return _Trial(away, collector, program)


def _course(folder: Path, stop: Event) -> list[Outcome]:
    jaeger, seen = servers.jaeger(folder / "jaeger")
    with ExitStack() as stack:
        stack.callback(jaeger.kill)
        trials = [_trial(folder / str(away), away, seen["OTLP"], stack) for away in AWAY]
        stop.wait(LATE)
        stack.enter_context(servers.started(jaeger, *(trial.collector for trial in trials)))
        stop.wait(3)
        begun = time.monotonic()
        for trial in trials:
            trial.collector.kill()
        gone, seconds = JAEGER_AWAY
        acts = [(trial.away, trial.collector.launch) for trial in trials]
        acts += [(gone, jaeger.kill), (gone + seconds, jaeger.launch)]
        for moment, act in sorted(acts, key=lambda each: each[0]):
            stop.wait(max(begun + moment - time.monotonic(), 0))
            act()
        for server in (jaeger, *(trial.collector for trial in trials)):
            server.wait()
        return [trial.outcome(seen["QUERY"]) for trial in trials]


@contextmanager
def under_way(folder: Path) -> Generator["Future[list[Outcome]]"]:
    """Run the whole course in a thread of its own; in the end it is cut short."""
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(_course, folder, stop)
        finally:
            stop.set()
