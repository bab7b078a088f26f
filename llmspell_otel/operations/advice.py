"""What the nine results do to a call: written once, for every kind and every shape."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.driving import Effect, Flow, Recalled, consult
from llmspell_otel.hooks.results import Cancel, Modified, Redirect, Replace, Result, Retry
from llmspell_otel.hooks.slots import Slot
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.asking import hook_context, past_changing, take_error
from llmspell_otel.operations.call import Call
from llmspell_otel.operations.effects import Branches, Join, Remember, Sleep, Spawn
from llmspell_otel.operations.facts import Firing
from llmspell_otel.operations.operation import Operation
from llmspell_otel.operations.scope import Scope
from llmspell_otel.operations.targets import branch_of, linked, redirected
from llmspell_otel.points import Moment

_clock: Final = time.perf_counter_ns
MAX_ATTEMPTS: Final = 100
"""The ceiling of attempts, multiplied with those of the operations around."""
MAX_BRANCHES: Final = 64
"""How many branches one operation may have; those beyond are not run."""
MAX_REDIRECTS: Final = 8
"""How far redirects may lead, those of the operations around counted."""


@dataclass(frozen=True, slots=True)
class StoredStream:
    """The chunks of a stream, as the cache keeps them."""

    chunks: tuple[Any, ...]


class Advice:
    """The way of one call: ask at each moment, and do what the answer means there."""

    __slots__ = (
        "_asks",
        "_branches",
        "_final",
        "_rounds",
        "moment",
        "operation",
        "proceed",
    )

    def __init__(self, operation: Operation, proceed: Effect) -> None:
        self.operation = operation
        self.proceed = proceed
        """Calls the original function; is answered with the moment that follows: after or error."""
        self.moment = Moment.BEFORE
        self._asks = True
        self._branches: Branches = []
        self._final = False
        self._rounds = 0

    def steps(self) -> Flow[Any]:
        """Go the way; gives the operation's output.

        Raises:
            OperationCancelled: a hook stopped the call, and its library has no other way to
                say so.
            BaseException: what the call raised, unless a hook recovered from it.
        """
        while True:
            try:
                slot = self.operation.moments.at(self.moment)
                self._final = self.moment is Moment.ERROR
                asked = self._asks and slot.hooks
                result = (yield from self._consult(slot)) if asked else None
                act = _ACTS.get(type(result), Advice._go_on)
                if (yield from act(self, result)):
                    return self.operation.output
            except GeneratorExit:
                self._abandon()
                raise
            except BaseException as error:
                if self._final:
                    self._abandon()
                    raise
                # Interrupted while waiting (cancelled, most likely): the error hooks see it once.
                self.operation.error = error
                self.moment, self._asks = Moment.ERROR, True

    def _consult(self, slot: Slot) -> Flow[Result | None]:
        """Ask the hooks of the moment; what they modify takes effect at once."""
        operation, moment = self.operation, self.moment
        context = hook_context(operation, moment)
        given, told, began = context.data.get("input"), len(context.decisions), _clock()
        with Scope(operation):  # what hooks do and log is part of the operation
            result = yield from consult(slot, context)
        operation.firings.append(Firing(slot, _clock() - began, context.decisions[told:]))
        operation.to_store += context.to_store
        if not self._apply(context, given) and _guarded(slot, context.decisions[told:]):
            # What was to be masked must not go out unmasked because the mask did not fit.
            result = result or Cancel("a guard's change of the input does not fit this call")
        if context.branches:
            yield from self._fork(context)
        return None if past_changing(operation, moment) else result

    def _apply(self, context: HookContext, given: object) -> bool:
        """Take over what hooks modified; False if a changed input does not fit the call."""
        operation, data = self.operation, context.data
        if self.moment is Moment.BEFORE:
            if data.get("input") is not given:
                try:
                    operation.take_input(data["input"])
                except Exception as error:
                    guard.report("changing a call", error)
                    return False
        elif past_changing(operation, self.moment):
            return True
        elif self.moment is Moment.AFTER:
            if "output" in data and data["output"] is not operation.output:
                operation.output = self._native(data["output"])
        elif data.get("error") is not operation.error:
            guard.contained("changing an error", take_error, operation, data.get("error"))
        return True

    def _native(self, value: Any) -> Any:
        """A hook's *value* in the shape the caller expects; as it is, if it does not fit."""
        operation = self.operation
        try:
            return operation.aspect.codec.answer(operation.call, value)
        except Exception as error:
            guard.report("shaping a hook's answer", error)
            return value

    # -- forks

    def _fork(self, context: HookContext) -> Flow[None]:
        operation = self.operation
        ready: list[Callable[[], Any]] = []
        for branch in context.branches:
            try:
                ready.append(branch_of(operation.aspect.kind, branch, operation.input))
            except LookupError as error:
                guard.report("starting a branch", error)
        room = MAX_BRANCHES - len(self._branches)
        if len(ready) > room:
            guard.report("starting branches", ValueError(f"more than {MAX_BRANCHES} of them"))
        if ready := ready[:room]:
            self._branches += yield Spawn([linked(operation, branch) for branch in ready])
        if self.moment is not Moment.BEFORE:
            yield from self._join()

    def _abandon(self) -> None:
        """Nobody will ask for the branches any more."""
        for branch in self._branches:
            branch.cancel()
        self._branches = []

    def _join(self) -> Flow[None]:
        if self._branches:
            under_way, self._branches = self._branches, []
            self.operation.forks += yield Join(under_way)

    # -- what each result does

    def _call(self) -> Flow[None]:
        self.moment = yield self.proceed
        if self.moment is Moment.ERROR:
            yield from self._failed()
        if self._branches:
            yield from self._join()

    def _failed(self) -> Flow[None]:
        """What a call that raised asks for before its error hooks are asked."""
        if not isinstance(self.operation.error, Exception):
            self._abandon()  # the program is stopping: wait for nothing
        yield from ()

    def _go_on(self, _result: object = None) -> Flow[bool]:
        """Continue: call; then give the output, or raise the error."""
        operation = self.operation
        if self.moment is Moment.BEFORE:
            yield from self._call()
            return False
        if self.moment is Moment.ERROR and operation.error is not None:
            raise operation.error
        if operation.to_store and not operation.partial:
            wanted, operation.to_store = operation.to_store, []
            chunks = operation.kept
            yield Remember(wanted, StoredStream(tuple(chunks)) if chunks else operation.output)
        return True

    def _cancel(self, result: Cancel) -> Flow[bool]:
        """Cancel: no call, or its output withheld; refused in the library's own shape."""
        operation = self.operation
        self._final = True
        operation.refusal = result.reason
        yield from self._join()
        try:
            operation.output = operation.aspect.codec.refuse(operation.call, result.reason)
        except NotImplementedError:
            raise OperationCancelled(
                result.reason, kind=operation.aspect.kind.value, name=operation.name
            ) from operation.error
        operation.error = None
        return True

    def _replace(self, result: Replace | Recalled) -> Flow[bool]:
        """Replace, or a cache's hit: the value is the output, and after hooks see it as such."""
        operation, value = self.operation, result.value
        if isinstance(result, Recalled):
            # A copy: what its caller does to an output must not reach the next one's.
            value = _copied(value)
        if isinstance(value, StoredStream):
            operation.output = operation.aspect.codec.replay(operation.call, value.chunks)
        else:
            operation.output = self._native(value)
        if self.moment is Moment.ERROR:
            operation.to_store = []  # what stands in for a failed call is not worth keeping
        operation.error = None
        self._asks = self.moment is Moment.BEFORE
        self.moment = Moment.AFTER
        yield from self._join()
        return False

    def _redirect(self, result: Redirect) -> Flow[bool]:
        """Redirect: another of the same kind does it; its output is taken."""
        operation = self.operation
        operation.hops += 1
        call = guard.contained("redirecting", _within_reach, operation, result.target)
        if call is None:
            return (yield from self._go_on())
        operation.call = call
        asked = self.moment is not Moment.AFTER
        yield from self._call()
        self._asks = asked or self.moment is Moment.ERROR
        return False

    def _retry(self, result: Retry) -> Flow[bool]:
        """Retry: wait; then ask again, or call again."""
        operation = self.operation
        before = self.moment is Moment.BEFORE
        self._rounds += before
        made = self._rounds if before else operation.attempts
        if made >= min(result.max_attempts, MAX_ATTEMPTS // operation.attempts_around()):
            return (yield from self._go_on())
        yield Sleep(max(0.0, result.delay))
        if not before:
            operation.output, operation.error = MISSING, None
            yield from self._call()
        return False


def _within_reach(operation: Operation, target: str | Callable[..., Any]) -> Call:
    """The call on *target*.

    Raises:
        LookupError: there is no such target, or redirects have led too far.
    """
    if operation.hops > MAX_REDIRECTS:
        raise LookupError(f"{operation.name}: more than {MAX_REDIRECTS} redirects in a row")
    return redirected(operation, target)


def _copied(value: Any) -> Any:
    """A copy of *value*; itself, where it holds what cannot be copied (a client, a lock)."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _guarded(slot: Slot, decisions: list[Decision]) -> bool:
    """Whether one of those who modified the data fails closed."""
    modified = {each.hook for each in decisions if each.result == Modified.kind}
    return any(hook.on_failure == "cancel" and hook.name in modified for hook in slot.hooks)


_ACTS: Final[dict[type, Callable[[Advice, Any], Flow[bool]]]] = {
    Cancel: Advice._cancel,  # noqa: SLF001 - the table belongs to the class
    Replace: Advice._replace,
    Recalled: Advice._replace,
    Redirect: Advice._redirect,  # noqa: SLF001
    Retry: Advice._retry,  # noqa: SLF001
}
