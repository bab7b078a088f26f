"""The eight phases of a tool's call: the advice of tools, which asks at each of them.

Validation of parameters, security check, allocation, execution (before, after, error), time-out,
release; spec section 1.4, where only the middle three were ever asked.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from llmspell_otel.errors import TimeLimitError
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.driving import Flow, consult
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.results import Cancel, Replace, Result
from llmspell_otel.hooks.switch import Switch
from llmspell_otel.operations.advice import Advice
from llmspell_otel.operations.asking import component_of
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.living import Living
from llmspell_otel.operations.operation import Operation
from llmspell_otel.operations.points import MOMENTS
from llmspell_otel.operations.scope import Scope
from llmspell_otel.operations.timing import limited
from llmspell_otel.operations.traits import UNLIMITED, traits_of
from llmspell_otel.operations.transitions import TRANSITION, Transitions
from llmspell_otel.operations.usage import Passed, Usage
from llmspell_otel.points import Moment
from llmspell_otel.system import limit_exceeded

VALIDATION: Final = registry.slot("ToolValidation")
PARAMETERS: Final = registry.slot("custom:tool_parameter_validation")
SECURITY: Final = registry.slot("custom:tool_security_check")
ALLOCATED: Final = registry.slot("custom:tool_resource_allocated")
TIMEOUT: Final = registry.slot("custom:tool_timeout")
RELEASED: Final = registry.slot("custom:tool_resource_released")

_ENTRY: Final = (
    (VALIDATION, "ParameterValidation"),
    (PARAMETERS, "ParameterValidation"),
    (SECURITY, "SecurityCheck"),
    (ALLOCATED, "ResourceAllocation"),
)
_DOOR: Final = Switch(slot for slot, _ in _ENTRY)
"""On while anybody is asked before the execution."""
_PHASE_OF: Final = {
    Moment.BEFORE: "PreExecution",
    Moment.AFTER: "PostExecution",
    Moment.ERROR: "ErrorHandling",
}


class Phases(Advice):
    """The way of a tool's call, with the phases around its execution."""

    __slots__ = ("_component", "_limited", "_traits", "_usage")

    def __init__(self, operation: Operation, proceed: Any) -> None:
        super().__init__(operation, proceed)
        self._component = component_of(operation.moments.kind, operation.name)
        self._traits = traits_of(operation.name)
        limits = self._traits.limits
        self._limited = limits is not UNLIMITED
        limited_use = limits.memory_bytes is not None or limits.cpu_seconds is not None
        measured = bool(ALLOCATED.hooks or RELEASED.hooks or limited_use)
        self._usage = Usage(operation.name, limits, measured=measured)
        if limits.seconds is not None:
            shape, call = operation.aspect.shape, operation.call
            target = limited(call.target, shape, limits.seconds, "tool", operation.name)
            operation.call = replace(call, target=target)

    def steps(self) -> Flow[Any]:
        """As `Advice.steps`; what was allocated is released on every way out."""
        try:
            admitted = (yield from self._entry()) if self._limited or _DOOR.on else True
            output = (yield from super().steps()) if admitted else self.operation.output
        except GeneratorExit:  # abandoned: nobody can be asked any more
            self._usage.leave()
            raise
        except BaseException:
            yield from self._release(success=False)
            raise
        yield from self._release(success=self.operation.refusal is None)
        return output

    def _entry(self) -> Flow[bool]:
        """Ask at the phases before the execution; whether the call goes on to it."""
        result = yield from self._forbidden()
        for slot, phase in _ENTRY:
            if result is not None:
                break
            if slot.hooks:
                result = yield from self._phase(slot, phase)
        if isinstance(result, Cancel):
            yield from self._cancel(result)
            return False
        if isinstance(result, Replace):
            yield from self._replace(result)
        return True

    def _forbidden(self) -> Flow[Result | None]:
        """Refuse a call that is one too many."""
        passed = self._usage.at_the_door()
        if passed is None:
            return None
        yield from self._passed(passed)
        many = f"{passed.value:g} calls, its limit is {passed.limit['limit']:g}"
        return Cancel(f"tool {self.operation.name!r} would have {many}")

    def _phase(self, slot: Slot, phase: str, **data: Any) -> Flow[Result | None]:
        """Ask at one phase; what hooks modify of the input takes effect."""
        operation = self.operation
        given = operation.input
        context = HookContext(
            slot.point,
            self._component,
            {"input": given, **data},
            self._details(phase),
            operation=operation,
            decisions=operation.decisions,
        )
        with Scope(operation):
            result = yield from consult(slot, context)
        if phase in _INPUT_COUNTS:
            self._apply(context, given)
        return result if isinstance(result, (Cancel, Replace)) else None

    def _details(self, phase: str, *, success: bool | None = None) -> dict[str, Any]:
        details = {
            "execution_phase": phase,
            "resource_metrics": self._usage.metrics(),
            **self._traits.metadata(),
        }
        if success is not None:
            details["execution_success"] = success
        return details

    def _consult(self, slot: Slot) -> Flow[Result | None]:
        moment = self.moment
        success = None if moment is Moment.BEFORE else moment is Moment.AFTER
        self.operation.details = self._details(_PHASE_OF[moment], success=success)
        return super()._consult(slot)

    def _failed(self) -> Flow[None]:
        yield from super()._failed()
        error = self.operation.error
        if isinstance(error, TimeLimitError):
            if TIMEOUT.hooks:
                yield from self._phase(TIMEOUT, "Timeout", error=error)
            limit = {"name": "tool.seconds", "limit": error.seconds, "unit": "s"}
            value = self._usage.wall_seconds
            yield from self._passed(Passed(limit, value))

    def _release(self, *, success: bool) -> Flow[None]:
        if self._limited or RELEASED.hooks:
            yield from self._released(success=success)
        self._usage.leave()

    def _released(self, *, success: bool) -> Flow[None]:
        for passed in self._usage.afterwards():
            yield from self._passed(passed)
        if RELEASED.hooks:
            self.operation.details = None
            context = HookContext(
                RELEASED.point,
                self._component,
                {"input": self.operation.input},
                self._details("ResourceCleanup", success=success),
                operation=self.operation,
                decisions=self.operation.decisions,
            )
            with Scope(self.operation):
                yield from consult(RELEASED, context)

    def _passed(self, passed: Passed) -> Flow[None]:
        yield from limit_exceeded(passed.limit, passed.value, self._component, self.operation)


_INPUT_COUNTS: Final = frozenset({"ParameterValidation", "SecurityCheck", "ResourceAllocation"})

_ADVICE: Final[dict[Kind, Callable[[Operation, Any], Advice]]] = {
    Kind.AGENT: Living,
    Kind.TOOL: Phases,
    Kind.STAGE: Transitions,
}


def advice_for(operation: Operation) -> Callable[[Operation, Any], Advice] | None:
    """What leads the way of *operation*; None where nobody is asked."""
    kind = operation.aspect.kind
    if MOMENTS[kind].switch.on or (kind is Kind.STAGE and TRANSITION.heard()):
        return _ADVICE.get(kind, Advice)
    return None
