"""Flush on SIGTERM, for programs that would otherwise die with a full queue. Opt-in.

`LLMSPELL_OTEL_FLUSH_ON_SIGTERM=true`, or `install()` in the main thread. The signal's previous
handler runs when the flush is over: at most the shutdown budget (5 s) later.
"""

import contextlib
import os
import signal
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

from llmspell_exporters.exit_budget import budget
from llmspell_exporters.ledger import ledger

VARIABLE: Final = "LLMSPELL_OTEL_FLUSH_ON_SIGTERM"


def wanted() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get(VARIABLE, "").strip().lower() == "true"


class _Handler:
    """The handler only writes to a pipe: whatever lock it interrupts, no lock is taken.

    A thread that waits at the pipe flushes, and raises the signal again; the second time the
    handler steps aside for the one before it.
    """

    def __init__(self) -> None:
        self._previous: Any = signal.SIG_DFL
        self._flushed = False
        self.arm()

    def arm(self) -> None:
        """Start the thread; in the child of a fork, another one."""
        self._flushed = False
        self._out, self._in = os.pipe()
        Thread(target=self._wait, args=(self._out,), name="llmspell-sigterm", daemon=True).start()

    def install(self) -> None:
        self._previous = signal.signal(signal.SIGTERM, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._flushed:
            os.write(self._in, b"!")
            return
        self._flushed = False
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _wait(self, out: int) -> None:
        while os.read(out, 1):
            with contextlib.suppress(Exception):
                self._flush()
            self._flushed = True
            os.kill(os.getpid(), signal.SIGTERM)

    def _flush(self) -> None:
        """Flush all three providers; if the signal is going to kill us, shut them down."""
        deadly = self._previous in (signal.SIG_DFL, None)
        for provider in (
            trace.get_tracer_provider(),
            get_logger_provider(),
            metrics.get_meter_provider(),
        ):
            finish = getattr(provider, "shutdown" if deadly else "force_flush", None)
            if finish is not None:
                with contextlib.suppress(Exception):
                    finish() if deadly else finish(int(budget.remaining() * 1000))
        if deadly:
            ledger.close()


_installed: _Handler | None = None


def install() -> bool:
    """Flush when SIGTERM comes; False if this is not the main thread, which alone may do that."""
    global _installed
    if current_thread() is not main_thread():
        return False
    if _installed is None:
        _installed = _Handler()
        os.register_at_fork(after_in_child=_installed.arm)
    if signal.getsignal(signal.SIGTERM) is not _installed:
        _installed.install()
    return True
