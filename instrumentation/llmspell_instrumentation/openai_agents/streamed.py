"""Streamed runs: `Runner.run_streamed` returns at once, and a background task runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import wrapt

from llmspell_instrumentation.joinpoint import through_engine
from llmspell_otel.operations.call import Call

if TYPE_CHECKING:
    _ObjectProxy = wrapt.ObjectProxy[Any]
else:  # wrapt 1's classes take no parameters
    _ObjectProxy = wrapt.ObjectProxy


def streamed(aspect: Any, call: Call) -> Any:
    """The door of streamed runs: a coroutine that is the whole run, its retries included."""
    result = call.kwargs.get("streamed_result")
    if result is None:
        return through_engine(aspect, call)
    return _run(aspect, call, result)


async def _run(aspect: Any, call: Call, result: Any) -> None:
    try:
        await through_engine(aspect, replace(call, target=_Attempts(call.target, result)))
    except Exception as error:
        # The caller's result holds this error already, and raises it to whoever reads events.
        if error is not result._stored_exception:  # noqa: SLF001 - where the SDK keeps it
            raise
    finally:
        finish(result)


class _Attempts:
    """Runs the loop, as often as hooks ask, and gives what it came to as a `RunResult`."""

    def __init__(self, original: Callable[..., Any], result: Any) -> None:
        self.__name__ = "start_streaming"
        self._original = original
        self._result = result
        self._attempts = 0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._attempts += 1
        if self._attempts > 1:
            if kwargs.get("is_resumed_state"):
                return self._outcome()  # What was resumed cannot be resumed again.
            _begin_anew(self._result)
            kwargs["run_state"] = None
        kwargs["streamed_result"] = _Unfinished(self._result)
        await self._original(*args, **kwargs)
        return self._outcome()

    def _outcome(self) -> Any:
        # Some errors (too many turns) are not raised here, but to whoever reads the events.
        self._result._check_errors()  # noqa: SLF001 - what reading the events begins with
        if self._result._stored_exception is not None:  # noqa: SLF001 - where it keeps them
            raise self._result._stored_exception  # noqa: SLF001
        return snapshot(self._result)


class _Unfinished(_ObjectProxy):
    """The caller's result, as one attempt sees it: its end is not yet the run's.

    Whoever reads the events goes on waiting while a hook decides, and reads on if the run is
    tried again.
    """

    def __init__(self, result: Any) -> None:
        super().__init__(result)
        self._self_complete = False
        self._self_queue = _WithoutEnd(result._event_queue)  # noqa: SLF001 - what the loop writes to

    @property
    def is_complete(self) -> bool:
        """Whether this attempt is over, or the caller has cancelled."""
        return self._self_complete or self.__wrapped__.is_complete

    @is_complete.setter
    def is_complete(self, value: bool) -> None:
        self._self_complete = value

    @property
    def _event_queue(self) -> Any:
        return self._self_queue


class _WithoutEnd(_ObjectProxy):
    """The queue of events, into which no attempt puts the end."""

    def put_nowait(self, item: Any) -> None:
        """Put in whatever is an event."""
        from agents.run_internal.run_steps import QueueCompleteSentinel

        if not isinstance(item, QueueCompleteSentinel):
            self.__wrapped__.put_nowait(item)


def _begin_anew(result: Any) -> None:
    result.new_items, result.raw_responses = [], []
    result.final_output, result.current_turn = None, 0
    result._stored_exception = None  # noqa: SLF001 - of the attempt before


def snapshot(result: Any) -> Any:
    """What the streamed *result* came to, as a run that was not streamed gives it."""
    from agents import RunResult

    return RunResult(
        input=result.input,
        new_items=result.new_items,
        raw_responses=result.raw_responses,
        final_output=result.final_output,
        input_guardrail_results=result.input_guardrail_results,
        output_guardrail_results=result.output_guardrail_results,
        tool_input_guardrail_results=result.tool_input_guardrail_results,
        tool_output_guardrail_results=result.tool_output_guardrail_results,
        context_wrapper=result.context_wrapper,
        _last_agent=result.current_agent,
    )


def say(result: Any, message: Any) -> None:
    """Add a *message* to the streamed *result*, and to its events."""
    from agents.stream_events import RunItemStreamEvent

    result.new_items = [*result.new_items, message]
    event = RunItemStreamEvent(name="message_output_created", item=message)
    result._event_queue.put_nowait(event)  # noqa: SLF001 - what the SDK's own loop writes to


def finish(result: Any) -> None:
    """Tell whoever reads the events of the streamed *result* that there are no more."""
    from agents.run_internal.run_steps import QueueCompleteSentinel

    if not result.is_complete:
        result.is_complete = True
        result._event_queue.put_nowait(QueueCompleteSentinel())  # noqa: SLF001 - as above
