"""The decorators: functions of every sort stay what they are."""

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.events import Event
from llmspell_otel.guard import guard
from llmspell_otel.hooks import Cancel, Hook, Modified, Redirect, Replace
from llmspell_otel.operations import agent, shape_of, stage, tool, workflow
from llmspell_otel.operations.call import Shape


@tool
def look_up(order: str, /, *more: str, limit: int = 3, **filters: str) -> tuple[Any, ...]:
    """Look an order up."""
    return order, more, limit, filters


class Desk:
    """Operations that are methods."""

    factor = 2

    @tool
    def method(self, number: int) -> int:
        """An ordinary one."""
        return number * self.factor

    @classmethod
    @tool
    def of_class(cls, number: int) -> int:
        """Below `classmethod`."""
        return number * cls.factor

    @tool
    @classmethod
    def above_class(cls, number: int) -> int:
        """Above it."""
        return number * cls.factor

    @staticmethod
    @tool
    def static(number: int) -> int:
        """Below `staticmethod`."""
        return number * 2

    @tool("above")
    @staticmethod
    def above_static(number: int) -> int:
        """Above it."""
        return number * 2

    @tool
    async def awaited(self, number: int) -> int:
        """An asynchronous one."""
        return number * self.factor


METHODS = ["method", "of_class", "above_class", "static", "above_static"]


@pytest.fixture(params=[False, True], ids=["unhooked", "hooked"])
def hooked(request: pytest.FixtureRequest) -> bool:
    """Whether anybody looks at tools."""
    if request.param:
        Hook.register("tool:before_execution", lambda context: None)
    return bool(request.param)


@pytest.mark.usefixtures("hooked")
@pytest.mark.parametrize("name", METHODS)
def test_methods_of_every_sort_work_as_before(name: str) -> None:
    """Through the object, and through the class where that was possible."""
    assert getattr(Desk(), name)(4) == 8
    assert getattr(Desk(), name)(number=4) == 8
    if name == "method":
        assert Desk.method(Desk(), 4) == 8
    else:
        assert getattr(Desk, name)(4) == 8


@pytest.mark.parametrize("name", METHODS)
def test_hooks_change_the_arguments_of_methods(name: str) -> None:
    """They see the arguments without the object, by name."""
    seen: list[Any] = []

    def hook(context: Any) -> Modified:
        seen.append(context.input)
        return Modified({"input": {"number": 5}})

    Hook.register("tool:before_execution", hook)
    assert getattr(Desk(), name)(4) == 10
    assert seen == [{"number": 4}]


def test_asynchronous_methods_too() -> None:
    """A coroutine method is awaited as before."""
    Hook.register("tool:before_execution", lambda context: Modified({"input": {"number": 5}}))
    assert asyncio.run(Desk().awaited(4)) == 10


@pytest.mark.usefixtures("hooked")
def test_every_sort_of_parameter_arrives() -> None:
    """Positional-only, variable and keyword-only arguments."""
    assert look_up("a", "b", "c", limit=1, state="open") == ("a", ("b", "c"), 1, {"state": "open"})
    assert look_up("a") == ("a", (), 3, {})


def test_hooks_change_every_sort_of_parameter() -> None:
    """Each is named as the function names it."""
    changed = {"order": "A", "more": ["B"], "limit": 9, "filters": {"x": "y"}}
    Hook.register("tool:before_execution", lambda context: Modified({"input": changed}))
    assert look_up("a", "b", limit=1) == ("A", ("B",), 9, {"x": "y"})


def test_arguments_that_do_not_fit_change_nothing() -> None:
    """A hook's mistake does not make the caller's call fail."""
    Hook.register("tool:before_execution", lambda context: Modified({"input": {"nmber": 5}}))
    Hook.register("tool:before_execution", lambda context: Modified({"input": None}))
    before = guard.failures
    assert Desk().method(4) == 8
    assert guard.failures == before + 1


def test_a_guards_arguments_that_do_not_fit_refuse_the_call() -> None:
    """What fails closed does so here too: nothing goes out that was to be masked."""
    Hook.register(
        "tool:before_execution",
        lambda context: Modified({"input": None}),
        on_failure="cancel",
    )
    with pytest.raises(OperationCancelled, match="does not fit"):
        Desk().method(4)


@pytest.mark.usefixtures("hooked")
def test_a_wrong_call_fails_as_before() -> None:
    """The function's own `TypeError` reaches the caller."""
    with pytest.raises(TypeError, match="number"):
        Desk().method()  # type: ignore[call-arg]


def test_decorated_functions_look_like_themselves() -> None:
    """Name, signature, documentation, and what they are."""
    assert look_up.__name__ == "look_up"
    assert look_up.__doc__ == "Look an order up."
    assert str(inspect.signature(Desk.method)) == "(self, number: int) -> int"

    @agent
    async def coroutine() -> None: ...

    @workflow
    def generator() -> Iterator[int]:
        yield 1

    @stage
    async def async_generator() -> AsyncIterator[int]:
        yield 1

    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)


def test_decorated_functions_are_copied_and_pickled_as_functions_are() -> None:
    """By name; process pools depend on it."""
    assert pickle.loads(pickle.dumps(look_up)) is look_up
    assert copy.deepcopy(look_up) is copy.copy(look_up) is look_up
    assert pickle.loads(pickle.dumps(Desk().method))(4) == 8


def test_partials_and_objects_can_be_operations() -> None:
    """They are named after what they call."""
    seen: list[str] = []
    Hook.register("tool:before_execution", lambda context: seen.append(context.component.name))

    class Adder:
        async def __call__(self, number: int) -> int:
            return number + 1

    def add(one: int, two: int) -> int:
        """Add two numbers."""
        return one + two

    assert tool(functools.partial(add, 1))(2) == 3
    assert asyncio.run(tool(Adder())(2)) == 3
    assert seen == ["add", "Adder"]
    assert shape_of(Adder()) is Shape.ASYNC


def test_a_plain_decorator_does_not_hide_what_a_function_is() -> None:
    """A coroutine function behind an ordinary wrapper is one."""

    def plain(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @tool
    @plain
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return number

    Hook.register("tool:after_execution", lambda context: Replace(context.output + 1))
    assert asyncio.run(work(1)) == 2


def test_an_object_that_makes_a_coroutine_function_synchronous_stays_so() -> None:
    """As `async_to_sync` does: what counts is how the object is called."""

    class Blocking:
        def __init__(self, function: Any) -> None:
            self.function = function
            functools.update_wrapper(self, function)

        def __call__(self, *args: Any) -> Any:
            return asyncio.run(self.function(*args))

    async def work(number: int) -> int:
        return number

    Hook.register("tool:after_execution", lambda context: Replace(context.output + 1))
    assert tool(Blocking(work))(1) == 2


@pytest.mark.parametrize("wrong", [int, 3], ids=repr)
def test_what_cannot_be_an_operation_is_refused(wrong: Any) -> None:
    """Classes and things that cannot be called."""
    with pytest.raises(TypeError, match="@tool cannot decorate"):
        tool(wrong)


def test_a_refusal_can_be_a_reply() -> None:
    """`on_cancel="reply"` gives a text that a model can read."""

    @tool("guarded", on_cancel="reply")
    def guarded() -> str:
        return "done"

    @tool
    def strict() -> str:
        return "done"

    Hook.register("tool:before_execution", lambda context: Cancel("not allowed"))
    assert guarded() == "Refused: not allowed"
    with pytest.raises(OperationCancelled) as caught:
        strict()
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (copied.reason, copied.kind, copied.name) == ("not allowed", "tool", "strict")


def test_redirects_do_not_reach_methods_without_their_object() -> None:
    """A method's name alone leads nowhere; the original is called."""
    Hook.register("tool:before_execution", lambda context: Redirect("method"))
    assert Desk.static(4) == 8


def test_redirects_end_at_their_ceiling() -> None:
    """Two tools that point at each other are called in the end."""
    calls: list[str] = []

    @tool
    def ping() -> str:
        return "ping"

    @tool
    def pong() -> str:
        return "pong"

    def hook(context: Any) -> Redirect:
        calls.append(context.component.name)
        return Redirect("pong" if context.component.name == "ping" else "ping")

    Hook.register("tool:before_execution", hook)
    assert ping() in {"ping", "pong"}
    assert len(calls) <= 10


def test_a_decorated_function_is_let_go() -> None:
    """Functions decorated inside of functions do not stay for ever."""

    @tool("passing")
    def passing() -> None: ...

    Hook.register("tool:before_execution", lambda context: None)
    passing()
    gone = weakref.ref(passing)
    del passing
    gc.collect()
    assert gone() is None


def test_outputs_and_inputs_are_let_go_with_the_call() -> None:
    """Nothing of a finished call is kept by the engine."""

    class Thing: ...

    @tool
    def give(thing: Thing) -> Thing:
        return thing

    @agent
    def around(thing: Thing) -> Thing:
        return give(thing)

    for point in ("tool:before_execution", "tool:after_execution", "agent:after_execution"):
        Hook.register(point, lambda context: None)
    thing = Thing()
    gone = weakref.ref(thing)
    assert around(thing) is thing
    del thing
    gc.collect()
    assert gone() is None


def _positional(a: int, /, b: int = 2) -> Any:
    return a, b


def _named(*, a: int, b: Any = None) -> Any:
    return a, b


def _mixed(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> Any:
    return a, b, c, rest, d, e, more


@pytest.mark.usefixtures("hooked")
@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (_positional, (1,), {}),
        (_positional, (1, 3), {}),
        (_named, (), {"a": 1}),
        (_named, (), {"a": 1, "b": 2}),
        (_mixed, (1, 2), {"d": 4}),
        (_mixed, (1, 2, 3, 4, 5), {"d": 4, "e": 6, "f": 7}),
        (_mixed, (1,), {"b": 2, "d": 4}),
    ],
)
def test_own_signatures_take_what_the_function_takes(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """The generated wrapper passes every argument on as it came."""
    decorated = tool("own")(function)
    assert decorated(*args, **kwargs) == function(*args, **kwargs)
    with pytest.raises(TypeError, match=function.__name__):
        decorated()


def test_nobody_is_looked_for_in_vain_when_somebody_comes_or_goes() -> None:
    """Hooks and subscribers that come between two calls are seen by the next."""
    heard: list[str] = []
    assert Desk.static(1) == 2
    hook = Hook.register("tool:before_execution", lambda context: Replace("hooked"))
    assert Desk.static(1) == "hooked"
    hook.unregister()
    assert Desk.static(1) == 2
    for name in ("started", "complete", "error"):
        listener = Event.subscribe(
            f"tool:execution_{name}", lambda event: heard.append(event.event_type)
        )
        with pytest.raises(TypeError):
            Desk.static(None)  # type: ignore[arg-type]
        Desk.static(1)
        listener.unsubscribe()
    assert heard == [
        f"tool:execution_{word}" for word in ("started", "started", "complete", "error")
    ]
