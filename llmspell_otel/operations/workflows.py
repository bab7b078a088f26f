"""Workflows from plain functions: in sequence, by condition, in a loop, in parallel.

A workflow runs with `run` (blocking) or `run_async` (awaiting); functions of either sort serve in
both. Each run is an operation of kind workflow, each step one of kind stage.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from llmspell_otel.errors import OperationCancelled, SettingsError
from llmspell_otel.guard import guard
from llmspell_otel.hooks.driving import Flow, drive, drive_async
from llmspell_otel.operations import workflow_run as phases
from llmspell_otel.operations.call import Kind, Shape
from llmspell_otel.operations.effects import Sleep
from llmspell_otel.operations.workflow_effects import (
    Function,
    Gather,
    RunStage,
    Settle,
    aspect_of,
    operation_of,
)
from llmspell_otel.operations.workflow_run import Checkpoint, RunState, WorkflowRun, workflow_run

__all__ = [
    "Branch",
    "Checkpoint",
    "Options",
    "Step",
    "Workflow",
    "WorkflowRun",
    "branch",
    "conditional",
    "loop",
    "parallel",
    "sequential",
    "step",
    "workflow_run",
]

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


@dataclass(slots=True)
class _Done:
    """A step that was done, and what undoing it needs."""

    step: Step
    output: Any


class Workflow:
    """A workflow that can be run any number of times."""

    pattern: ClassVar[str]

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.options = options

    def run(
        self,
        value: Any = None,
        *,
        shared: Mapping[str, Any] | None = None,
        resume: Checkpoint | None = None,
    ) -> Any:
        """Run it with *value*, blocking; gives its output.

        Args:
            value: What the first step is called with.
            shared: What the shared data begin with.
            resume: Take a sequence up after this checkpoint, with its value and data.

        Raises:
            TimeLimitError: its time was up.
            OperationCancelled: a hook stopped it.
            Exception: what a step raised.
        """
        made = self._made(shared, resume)

        def target(given: Any) -> Any:
            token = phases._run.set(made)  # noqa: SLF001 - of this package
            try:
                return drive(self._steps(made, given, resume))
            finally:
                phases._run.reset(token)  # noqa: SLF001

        first = value if resume is None else resume.value
        return operation_of(aspect_of(Kind.WORKFLOW, self.name, Shape.SYNC), target, first, None)

    async def run_async(
        self,
        value: Any = None,
        *,
        shared: Mapping[str, Any] | None = None,
        resume: Checkpoint | None = None,
    ) -> Any:
        """The same, awaiting."""
        made = self._made(shared, resume)

        async def target(given: Any) -> Any:
            token = phases._run.set(made)  # noqa: SLF001 - of this package
            try:
                return await drive_async(self._steps(made, given, resume))
            finally:
                phases._run.reset(token)  # noqa: SLF001

        first = value if resume is None else resume.value
        seconds = self.options.timeout
        aspect = aspect_of(Kind.WORKFLOW, self.name, Shape.ASYNC)
        return await operation_of(aspect, target, first, seconds)

    def _made(self, shared: Mapping[str, Any] | None, resume: Checkpoint | None) -> WorkflowRun:
        begin = shared or {} if resume is None else {**resume.shared, **(shared or {})}
        return WorkflowRun(self.name, self.pattern, begin, self.options.timeout)

    def _body(self, run: WorkflowRun, value: Any, done: list[_Done], first: int) -> Flow[Any]:
        raise NotImplementedError

    def _steps(self, run: WorkflowRun, value: Any, resume: Checkpoint | None) -> Flow[Any]:
        """Start, the body, completion; after a failure what was done is undone first."""
        done: list[_Done] = []
        try:
            yield from run.tell(phases.START)
            run.state = RunState.RUNNING
            output = yield from self._body(run, value, done, resume.index + 1 if resume else 0)
        except GeneratorExit:
            raise
        except BaseException as error:
            outcome = _outcome(run, error)
            run.state = RunState.CANCELLED if outcome == "cancelled" else RunState.FAILED
            yield from self._roll_back(run, done)
            yield from run.tell(phases.COMPLETE, outcome=outcome, error_type=type(error).__name__)
            raise
        run.state = RunState.COMPLETED
        yield from run.tell(phases.COMPLETE, outcome="ok")
        return output

    def _roll_back(self, run: WorkflowRun, done: list[_Done]) -> Flow[None]:
        undoing = [each for each in reversed(done) if each.step.compensate is not None]
        if not undoing:
            return
        yield from run.rolled_back([each.step.name for each in undoing])
        for each in undoing:
            assert each.step.compensate is not None  # noqa: S101 - chosen for having one
            try:
                yield Settle(each.step.compensate, each.output)
            except Exception as error:
                run.errors.append(error)
                guard.report(f"undoing step {each.step.name}", error)

    def _stage(
        self, run: WorkflowRun, each: Step, index: int, value: Any, done: list[_Done]
    ) -> Flow[Any]:
        """One step between its two boundaries; tried again as the options say."""
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
        done.append(_Done(each, output))
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


def _outcome(run: WorkflowRun, error: BaseException) -> str:
    if run.late:
        return "timeout"
    stopped = isinstance(error, (OperationCancelled, asyncio.CancelledError))
    return "cancelled" if stopped else "failed"


class _Sequential(Workflow):
    pattern = "sequential"

    def __init__(self, name: str, steps: tuple[Step, ...], options: Options) -> None:
        super().__init__(name, options)
        self._all = steps

    def _body(self, run: WorkflowRun, value: Any, done: list[_Done], first: int) -> Flow[Any]:
        for index, each in enumerate(self._all):
            if index >= first:
                value = yield from self._stage(run, each, index, value, done)
                yield from run.checkpointed(each.name, index, value)
        return value


@dataclass(frozen=True, slots=True)
class Branch:
    """A condition on the value, and the step for when it is true."""

    name: str
    when: Function
    then: Step


def branch(when: Function, then: Step | Function, *, name: str | None = None) -> Branch:
    """Take *then* when ``when(value)`` is true; either may be asynchronous."""
    taken = _step(then)
    return Branch(name or taken.name, when, taken)


class _Conditional(Workflow):
    pattern = "conditional"

    def __init__(
        self, name: str, branches: tuple[Branch, ...], default: Step | None, options: Options,
        *, all_matching: bool,
    ) -> None:  # fmt: skip
        super().__init__(name, options)
        self._branches = branches
        self._default = default
        self._all_matching = all_matching

    def _body(self, run: WorkflowRun, value: Any, done: list[_Done], first: int) -> Flow[Any]:
        del first
        matched = False
        for index, each in enumerate(self._branches):
            result = yield from self._evaluated(run, each, index, value)
            if result["is_true"]:
                matched = True
                yield from run.tell(
                    phases.SELECTION, selected_branch=each.name, condition_result=result
                )
                value = yield from self._stage(run, each.then, index, value, done)
                if not self._all_matching:
                    break
        if not matched and self._default is not None:
            chosen = self._default
            yield from run.tell(
                phases.SELECTION, selected_branch=chosen.name, condition_result=None
            )
            value = yield from self._stage(run, chosen, len(self._branches), value, done)
        return value

    def _evaluated(
        self, run: WorkflowRun, each: Branch, index: int, value: Any
    ) -> Flow[dict[str, Any]]:
        result: dict[str, Any] = {"is_true": False, "error": None, "description": each.name}
        where = {"branch_name": each.name, "branch_index": index}
        try:
            result["is_true"] = bool((yield Settle(each.when, value)))
        except Exception as error:
            result["error"] = type(error).__name__
            yield from run.tell(phases.CONDITION, **where, condition_result=result)
            raise
        yield from run.tell(phases.CONDITION, **where, condition_result=result)
        return result


class _Loop(Workflow):
    pattern = "loop"

    def __init__(
        self, name: str, body: Step, items: Iterable[Any] | None, ends: "_Ends", options: Options
    ) -> None:
        super().__init__(name, options)
        self._each = body
        self._items = items
        self._ends = ends

    def _body(self, run: WorkflowRun, value: Any, done: list[_Done], first: int) -> Flow[Any]:
        del first
        outputs: list[Any] = []
        items = iter(self._items) if self._items is not None else None
        index = 0
        while True:
            if items is not None:
                given = next(items, _NO_MORE)
            else:
                going = self._ends.going is None or (yield Settle(self._ends.going, value))
                given = value if going else _NO_MORE
            if given is _NO_MORE:
                break
            if index >= self._ends.max_iterations:
                yield from self._terminated(run, "max_iterations", index)
                break
            yield from run.tell(phases.ITERATION, iteration=index, value=given)
            value = yield from self._stage(run, self._each, index, given, done)
            outputs.append(value)
            index += 1
            yield from run.tell(phases.ITERATED, iteration=index - 1, completed_iterations=index)
            if self._ends.until is not None and (yield Settle(self._ends.until, value)):
                yield from self._terminated(run, "until", index)
                break
        return value if items is None else outputs

    def _terminated(self, run: WorkflowRun, reason: str, completed: int) -> Flow[None]:
        yield from run.tell(phases.TERMINATION, break_reason=reason, completed_iterations=completed)


_NO_MORE = object()


@dataclass(frozen=True, slots=True)
class _Ends:
    """When a loop ends."""

    going: Function | None
    until: Function | None
    max_iterations: int


class _Parallel(Workflow):
    pattern = "parallel"

    def __init__(self, name: str, branches: tuple[Step, ...], options: Options) -> None:
        super().__init__(name, options)
        self._branches = branches

    def _body(self, run: WorkflowRun, value: Any, done: list[_Done], first: int) -> Flow[Any]:
        del first
        width, count = min(self.options.max_concurrency, len(self._branches)), len(self._branches)
        yield from run.tell(phases.FORK, branch_count=count, max_concurrency=width)
        flows = [
            self._stage(run, each, index, value, done) for index, each in enumerate(self._branches)
        ]
        fail_fast = self.options.on_error != "continue"
        results: list[Any] = (yield Gather(flows, width, fail_fast)) if flows else []
        failed = [each for each in results if isinstance(each, BaseException)]
        stopped = any(isinstance(each, asyncio.CancelledError) for each in failed)
        ended = count - len(failed)
        yield from run.tell(phases.SYNCHRONIZATION, branch_count=count, arrived_branches=ended)
        yield from run.tell(phases.JOIN, completed_branches=ended, stopped_early=stopped)
        # The failure that stopped the others comes before those it stopped.
        for error in sorted(failed, key=lambda each: isinstance(each, asyncio.CancelledError)):
            raise error
        return {each.name: got for each, got in zip(self._branches, results, strict=True)}


# -- the four patterns


def sequential(name: str, *steps: Step | Function, **options: Any) -> Workflow:
    """One step after another: each is given what the one before gave. *options*: `Options`."""
    return _Sequential(name, tuple(_step(each) for each in steps), Options(**options))


def conditional(
    name: str,
    *branches: Branch,
    default: Step | Function | None = None,
    all_matching: bool = False,
    **options: Any,
) -> Workflow:
    """The first branch whose condition is true, or all such; else *default*, else the value."""
    fallback = None if default is None else _step(default)
    return _Conditional(name, branches, fallback, Options(**options), all_matching=all_matching)


def loop(  # noqa: PLR0913 - each way to end is an option
    name: str,
    body: Step | Function,
    *,
    over: Iterable[Any] | None = None,
    while_: Function | None = None,
    until: Function | None = None,
    max_iterations: int = 1000,
    **options: Any,
) -> Workflow:
    """*body* for each of *over*, giving the list of outputs; or on its own output *while_* true.

    ``until(output)`` ends it early; so does *max_iterations*.
    """
    return _Loop(name, _step(body), over, _Ends(while_, until, max_iterations), Options(**options))


def parallel(name: str, *branches: Step | Function, **options: Any) -> Workflow:
    """All branches at once on the same value; gives their outputs by name.

    Awaiting, they are tasks, and blocking functions block each other; blocking, they are threads.
    """
    return _Parallel(name, tuple(_step(each) for each in branches), Options(**options))


def _step(given: Step | Function) -> Step:
    return given if isinstance(given, Step) else step(given)
