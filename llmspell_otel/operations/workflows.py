"""Workflows from plain functions: in sequence, by condition, in a loop, in parallel.

A workflow runs with `run` (blocking) or `run_async` (awaiting); functions of either sort serve in
both. Each run is an operation of kind workflow, each step one of kind stage.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.hooks.driving import Flow, drive, drive_async
from llmspell_otel.operations import workflow_run as phases
from llmspell_otel.operations.call import Kind, Shape
from llmspell_otel.operations.workflow_effects import (
    Function,
    Gather,
    Settle,
    aspect_of,
    operation_of,
)
from llmspell_otel.operations.workflow_run import Checkpoint, RunState, WorkflowRun, workflow_run
from llmspell_otel.operations.workflow_steps import Options, Step, Walk, step

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

Body = Callable[[Walk, Any], Flow[Any]]
"""What a pattern does with its steps: gives the output for the value that a run begins with."""


class Workflow:
    """A workflow that can be run any number of times."""

    def __init__(self, name: str, pattern: str, body: Body, options: Options) -> None:
        self.name = name
        self.pattern = pattern
        self.options = options
        self._body = body

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

    def _steps(self, run: WorkflowRun, value: Any, resume: Checkpoint | None) -> Flow[Any]:
        """Start, the body, completion; after a failure what was done is undone first."""
        walk = Walk(run, self.options, 0 if resume is None else resume.index + 1)
        try:
            yield from run.tell(phases.START)
            run.state = RunState.RUNNING
            output = yield from self._body(walk, value)
        except GeneratorExit:
            raise
        except BaseException as error:
            outcome = _outcome(run, error)
            run.state = RunState.CANCELLED if outcome == "cancelled" else RunState.FAILED
            yield from walk.roll_back()
            yield from run.tell(phases.COMPLETE, outcome=outcome, error_type=type(error).__name__)
            raise
        run.state = RunState.COMPLETED
        yield from run.tell(phases.COMPLETE, outcome="ok")
        return output


def _outcome(run: WorkflowRun, error: BaseException) -> str:
    if run.late:
        return "timeout"
    stopped = isinstance(error, (OperationCancelled, asyncio.CancelledError))
    return "cancelled" if stopped else "failed"


# -- one after another


def sequential(name: str, *steps: Step | Function, **options: Any) -> Workflow:
    """One step after another: each is given what the one before gave. *options*: `Options`."""
    line = [_step(each) for each in steps]

    def body(walk: Walk, value: Any) -> Flow[Any]:
        for index, each in enumerate(line[walk.first :], walk.first):
            value = yield from walk.stage(each, index, value)
            yield from walk.run.checkpointed(each.name, index, value)
        return value

    return Workflow(name, "sequential", body, Options(**options))


# -- by condition


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


def conditional(
    name: str,
    *branches: Branch,
    default: Step | Function | None = None,
    all_matching: bool = False,
    **options: Any,
) -> Workflow:
    """The first branch whose condition is true, or all such; else *default*, else the value."""

    def body(walk: Walk, value: Any) -> Flow[Any]:
        matched = False
        for index, each in enumerate(branches):
            result = yield from _evaluated(walk.run, each, index, value)
            if not result["is_true"]:
                continue
            matched = True
            yield from _selected(walk.run, each.name, result)
            value = yield from walk.stage(each.then, index, value)
            if not all_matching:
                break
        if not matched and default is not None:
            taken = _step(default)
            yield from _selected(walk.run, taken.name, None)
            value = yield from walk.stage(taken, len(branches), value)
        return value

    return Workflow(name, "conditional", body, Options(**options))


def _selected(run: WorkflowRun, name: str, result: dict[str, Any] | None) -> Flow[None]:
    return run.tell(phases.SELECTION, selected_branch=name, condition_result=result)


def _evaluated(run: WorkflowRun, each: Branch, index: int, value: Any) -> Flow[dict[str, Any]]:
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


# -- in a loop


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
    ends = _Ends(over, while_, until, max_iterations)
    each = _step(body)
    return Workflow(
        name, "loop", lambda walk, value: _looped(walk, value, each, ends), Options(**options)
    )


_NO_MORE = object()


@dataclass(frozen=True, slots=True)
class _Ends:
    """What a loop goes over, and when it ends."""

    over: Iterable[Any] | None
    going: Function | None
    until: Function | None
    max_iterations: int


def _looped(walk: Walk, value: Any, each: Step, ends: _Ends) -> Flow[Any]:
    run, outputs, index = walk.run, list[Any](), 0
    items = iter(ends.over) if ends.over is not None else None
    while (given := (yield from _next(ends, items, value))) is not _NO_MORE:
        if index >= ends.max_iterations:
            yield from _terminated(run, "max_iterations", index)
            break
        yield from run.tell(phases.ITERATION, iteration=index, value=given)
        value = yield from walk.stage(each, index, given)
        outputs.append(value)
        index += 1
        yield from run.tell(phases.ITERATED, iteration=index - 1, completed_iterations=index)
        if ends.until is not None and (yield Settle(ends.until, value)):
            yield from _terminated(run, "until", index)
            break
    return value if items is None else outputs


def _next(ends: _Ends, items: Any, value: Any) -> Flow[Any]:
    if items is not None:
        return next(items, _NO_MORE)
    going = ends.going is None or (yield Settle(ends.going, value))
    return value if going else _NO_MORE


def _terminated(run: WorkflowRun, reason: str, completed: int) -> Flow[None]:
    return run.tell(phases.TERMINATION, break_reason=reason, completed_iterations=completed)


# -- in parallel


def parallel(name: str, *branches: Step | Function, **options: Any) -> Workflow:
    """All branches at once on the same value; gives their outputs by name.

    Awaiting, they are tasks, and blocking functions block each other; blocking, they are threads.
    """
    ways = [_step(each) for each in branches]
    return Workflow(
        name, "parallel", lambda walk, value: _side_by_side(walk, value, ways), Options(**options)
    )


def _side_by_side(walk: Walk, value: Any, branches: list[Step]) -> Flow[dict[str, Any]]:
    run, count = walk.run, len(branches)
    width = min(walk.options.max_concurrency, count)
    yield from run.tell(phases.FORK, branch_count=count, max_concurrency=width)
    flows = [walk.stage(each, index, value) for index, each in enumerate(branches)]
    fail_fast = walk.options.on_error != "continue"
    results: list[Any] = (yield Gather(flows, width, fail_fast)) if flows else []
    failed = [each for each in results if isinstance(each, BaseException)]
    stopped = any(isinstance(each, asyncio.CancelledError) for each in failed)
    ended = count - len(failed)
    yield from run.tell(phases.SYNCHRONIZATION, branch_count=count, arrived_branches=ended)
    yield from run.tell(phases.JOIN, completed_branches=ended, stopped_early=stopped)
    # The failure that stopped the others comes before those it stopped.
    for error in sorted(failed, key=lambda each: isinstance(each, asyncio.CancelledError)):
        raise error
    return {each.name: got for each, got in zip(branches, results, strict=True)}


def _step(given: Step | Function) -> Step:
    return given if isinstance(given, Step) else step(given)
