"""The steps of one run of a workflow: each between its boundaries, tried again, undone."""

from dataclasses import dataclass
from typing import Any, Literal

from llmspell_otel.errors import OperationCancelled, SettingsError
from llmspell_otel.guard import guard
from llmspell_otel.hooks.driving import Flow
from llmspell_otel.operations import workflow_run as phases
from llmspell_otel.operations.effects import Sleep
from llmspell_otel.operations.workflow_effects import Function, RunStage, Settle
from llmspell_otel.operations.workflow_run import WorkflowRun

OnError = Literal["fail_fast", "continue", "retry"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a function of one value, a coroutine function, or another workflow."""

    name: str
    function: Function
    compensate: Function | None = None
    timeout: float | None = None
    step_type: str = "custom"


def step(
    function: Function,
    *,
    name: str | None = None,
    compensate: Function | None = None,
    timeout: float | None = None,
    step_type: Literal["tool", "agent", "custom"] = "custom",
) -> Step:
    """A step of *function*.

    Args:
        function: Called with the value so far; gives the next one.
        name: The function's own if None.
        compensate: Called with the step's output to undo it, when a later step fails.
        timeout: Seconds after which it fails with `TimeLimitError`.
        step_type: What hooks are told that it is.
    """
    called = name or str(getattr(function, "name", None) or getattr(function, "__name__", "step"))
    return Step(called, function, compensate, timeout, step_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a workflow deals with time and failure; durations in seconds.

    Raises:
        SettingsError: a number is not usable.
    """

    timeout: float | None = None
    """For the whole run. Awaiting it is interrupted, blocking it ends before the next step."""
    on_error: OnError = "fail_fast"
    """What a failing step does: ends the run, is left out, or is tried again."""
    max_attempts: int = 3
    """With ``retry``: how often a step is tried."""
    backoff: float = 1.0
    """With ``retry``: the first pause; each further one is twice as long."""
    max_concurrency: int = 4
    """In parallel: how many branches at once."""

    def __post_init__(self) -> None:
        for name in ("max_attempts", "max_concurrency"):
            if getattr(self, name) < 1:
                raise SettingsError(f"workflow.{name}", "is below 1", "use 1 or more")
        if self.on_error not in ("fail_fast", "continue", "retry"):
            mend = "use fail_fast, continue or retry"
            raise SettingsError("workflow.on_error", f"is {self.on_error!r}", mend)


class Walk:
    """One run's way through its steps.

    Attributes:
        run: What steps and hooks see of it.
        options: How it deals with time and failure.
        first: The index of the step to begin with.
    """

    def __init__(self, run: WorkflowRun, options: Options, first: int) -> None:
        self.run = run
        self.options = options
        self.first = first
        self._done: list[tuple[Step, Any]] = []

    def stage(self, each: Step, index: int, value: Any) -> Flow[Any]:
        """One step between its two boundaries; tried again as the options say."""
        run = self.run
        details = {"step_name": each.name, "step_index": index, "step_type": each.step_type}
        run.check_time()
        yield from run.tell(phases.STEP, {**details, "boundary": "before"})
        try:
            output = yield from self._tried(each, value)
        except Exception as error:
            outcome = {"boundary": "after", "step_success": False}
            yield from run.tell(phases.STEP, {**details, **outcome})
            if self.options.on_error != "continue" or isinstance(error, OperationCancelled):
                raise
            run.errors.append(error)
            return value
        self._done.append((each, output))
        yield from run.tell(phases.STEP, {**details, "boundary": "after", "step_success": True})
        return output

    def _tried(self, each: Step, value: Any) -> Flow[Any]:
        attempts = self.options.max_attempts if self.options.on_error == "retry" else 1
        pause = self.options.backoff
        while True:
            attempts -= 1
            try:
                return (yield RunStage(each.name, each.function, value, each.timeout))
            except OperationCancelled:
                raise
            except Exception:
                if not attempts:
                    raise
            yield Sleep(pause)
            pause *= 2

    def roll_back(self) -> Flow[None]:
        """Undo what was done, the last step first."""
        undoing = [
            (each.name, each.compensate, output)
            for each, output in reversed(self._done)
            if each.compensate is not None
        ]
        if undoing:
            yield from self.run.rolled_back([name for name, _, _ in undoing])
        for name, compensate, output in undoing:
            try:
                yield Settle(compensate, output)
            except Exception as error:
                self.run.errors.append(error)
                guard.report(f"undoing step {name}", error)
