"""Tools that fail: hooks see the tool's own error before the SDK makes a text of it."""

from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from llmspell_instrumentation.joinpoint import through_engine
from llmspell_instrumentation.reading import get
from llmspell_otel.operations.call import Call


@dataclass(slots=True)
class _Failure:
    """How one attempt failed: what the tool raised, and what the SDK made of it."""

    error: BaseException | None = None
    told: Any = None

    def forget(self) -> None:
        """Begin anew, for another attempt."""
        self.error = self.told = None


_current: ContextVar[_Failure | None] = ContextVar("llmspell_tool_failure", default=None)


def noted(aspect: Any, call: Call) -> Any:
    """The door of the SDK's failure formatter: keep the error that it is given."""
    del aspect
    failure = _current.get()
    if failure is not None:
        failure.error = call.kwargs.get("error")
    return call.proceed()


async def failing(aspect: Any, call: Call) -> Any:
    """The door of tools: a handled failure is raised for the engine, and told when it stays one."""
    failure = _Failure()

    async def attempt(*args: Any, **kwargs: Any) -> Any:
        failure.forget()
        token = _current.set(failure)
        try:
            result = await call.target(*args, **kwargs)
        finally:
            _current.reset(token)
        error = failure.error or _timeout(result)
        if error is None:
            return result
        failure.error, failure.told = error, result
        raise error

    try:
        return await through_engine(aspect, replace(call, target=attempt))
    except Exception as error:
        if failure.told is None or error is not failure.error:
            raise
        return failure.told


def _timeout(result: Any) -> TimeoutError | None:
    """What is wrong with a *result* that the SDK made up, although the tool raised nothing."""
    made_up = get(result, "is_sdk_generated_error") is True
    return TimeoutError(str(result.output)) if made_up else None
