"""The three points around the bus: asked while hooked, not in the way otherwise."""

from typing import Any

import pytest

from llmspell_otel import Cancel, Event, Hook, Modified, Replace, tool
from llmspell_otel.events import EventBus, default_bus


def test_before_and_after_are_fired_once_per_event() -> None:
    """With the documented keys, around the delivery."""
    told: list[Any] = []
    Hook.register("event:before_emit", lambda c: told.append((c.point.name, c.data)))
    Hook.register("event:after_emit", lambda c: told.append((c.point.name, c.data)))
    with Event.subscribe("shop.sale", lambda event: told.append(event.data)):
        Event.publish("shop.sale", 7)
    data = {"event_type": "shop.sale", "payload": 7}
    assert told == [("BeforeEventEmit", data), 7, ("AfterEventEmit", data)]


@pytest.mark.parametrize(
    ("answer", "delivered"),
    [
        (Cancel("secret"), []),
        (Replace("changed"), ["changed"]),
        (Modified({"payload": "changed"}), ["changed"]),
        (None, ["said"]),
    ],
)
def test_what_an_answer_does(answer: Any, delivered: list[str]) -> None:
    """Cancel withholds the event, Replace and Modified change what it carries."""
    Hook.register("event:before_emit", lambda _: answer)
    told: list[Any] = []
    with Event.subscribe("talk", lambda event: told.append(event.payload)):
        Event.publish("talk", "said")
    assert told == delivered


def test_the_bus_is_left_alone_without_hooks() -> None:
    """Its own methods are in force before the first hook and after the last."""
    bus = default_bus()
    assert bus.publish.__func__ is EventBus.publish  # type: ignore[attr-defined] # a method
    handle = Hook.register("event:after_emit", lambda _: None)
    assert "publish" in bus.__dict__
    handle.disable()
    Event.publish("a")
    assert "publish" not in bus.__dict__
    handle.enable()
    assert "publish" in bus.__dict__
    handle.unregister()
    assert bus.publish.__func__ is EventBus.publish  # type: ignore[attr-defined] # a method
    assert bus.wants.__func__ is EventBus.wants  # type: ignore[attr-defined] # a method


def test_hooks_may_publish() -> None:
    """What a hook of these points publishes goes out, unasked."""
    told: list[str] = []
    Hook.register("event:before_emit", lambda _: Event.publish("note") and None)
    with Event.subscribe("*", lambda event: told.append(event.event_type)):
        Event.publish("talk")
    assert told == ["note", "talk"]


def test_operations_are_events_for_hooks_too() -> None:
    """A hook is interest enough, also in an operation that nobody wanted to know of before."""
    told: list[str] = []

    @tool
    def look() -> int:
        return 1

    look()
    hook = Hook.register("event:before_emit", lambda c: told.append(c.data["event_type"]))
    look()
    hook.unregister()
    look()
    assert told == ["tool:execution_started", "tool:execution_complete"]


def test_a_failing_handler_fires_its_point(caplog: pytest.LogCaptureFixture) -> None:
    """With the event's type and the error's, and the subscription as the component."""
    told: list[Any] = []
    handle = Hook.register("EventHandlerError", told.append)

    def broken(_: Any) -> None:
        raise KeyError("secret")

    with Event.subscribe("talk", broken, name="broken"):
        Event.publish("talk", correlation_id="run-1")
        handle.unregister()
        Event.publish("talk")
    assert len(told) == 1
    context = told[0]
    assert context.data == {"event_type": "talk", "error": {"type": "KeyError"}}
    assert context.component.name == "broken"
    assert context.metadata["correlation_id"] == "run-1"
