"""Where each signal goes: a provider that was given, or the global one once somebody sets it."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry._logs import _internal as _logs_state
from opentelemetry.metrics import MeterProvider
from opentelemetry.metrics import _internal as _metrics_state
from opentelemetry.trace import TracerProvider

_API: Final = ("opentelemetry.trace", "opentelemetry.metrics", "opentelemetry._logs")


class Providers(NamedTuple):
    """Where each signal goes; None is the global provider, even one that is set later."""

    tracer: TracerProvider | None = None
    meter: MeterProvider | None = None
    logger: LoggerProvider | None = None


EVERYWHERE: Final = Providers()
"""The global providers."""


def is_real(made: object) -> bool:
    """Whether *made* is more than the API's own stand-in, which records nothing."""
    return not type(made).__module__.startswith(_API)


class Source:
    """One signal's provider, which may be there from the start, later, or never.

    Args:
        given: The provider to use; None is the global one.
        ask: The API's way to ask for the global one.
        state: Where the API keeps it, and under which name.
    """

    __slots__ = ("_ask", "_given", "_name", "_state")

    def __init__(
        self, given: Any, ask: Callable[[], Any], state: Mapping[str, Any], name: str
    ) -> None:
        self._given = given
        self._ask = ask
        self._state = state
        self._name = name
        if given is None:
            ask()  # the environment may name one, which is loaded by being asked for

    @property
    def hopeless(self) -> bool:
        """Whether there will never be a real one."""
        return self._given is not None and not is_real(self._given)

    def there(self) -> bool:
        """Whether a real one is there by now."""
        if self._given is None and self._state.get(self._name, self) is None:
            return False  # asking would read the environment, which costs as much as a call
        return is_real(self.provider())

    def provider(self) -> Any:
        """The provider, real or not."""
        return self._ask() if self._given is None else self._given


def tracers(given: TracerProvider | None) -> Source:
    """Where spans go."""
    return Source(given, trace.get_tracer_provider, vars(trace), "_TRACER_PROVIDER")


def meters(given: MeterProvider | None) -> Source:
    """Where metrics go."""
    return Source(given, metrics.get_meter_provider, vars(_metrics_state), "_METER_PROVIDER")


def loggers(given: LoggerProvider | None) -> Source:
    """Where log records go."""
    return Source(given, _logs.get_logger_provider, vars(_logs_state), "_LOGGER_PROVIDER")
