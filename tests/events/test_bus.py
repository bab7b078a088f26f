"""Publishing, routing, inline delivery and the books."""

import contextvars
import gc
import logging
import random
import threading
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.events import (
    Event,
    EventBus,
    EventError,
    PatternError,
    UniversalEvent,
    make,
    router,
)
from tests.events.patterns import matches


@pytest.fixture
def bus() -> EventBus:
    """A bus of one's own."""
    return EventBus()


def test_an_event_reaches_those_who_asked_for_it(bus: EventBus) -> None:
    """Matching subscribers get the very event, the others nothing."""
    got: list[tuple[str, UniversalEvent]] = []
    bus.subscribe("tool.*", lambda event: got.append(("tool", event)))
    bus.subscribe("agent.*", lambda event: got.append(("agent", event)))
    event = make("tool:done", {"n": 1})
    bus.publish(event)
    assert got == [("tool", event)]
    assert got[0][1] is event


def test_several_patterns_deliver_once(bus: EventBus) -> None:
    """Overlapping patterns and alternatives of one subscription count as one."""
    got: list[str] = []
    handle = bus.subscribe(
        ["tool.*", "**.done", "{tool,tool}.done", "*"], lambda event: got.append(event.event_type)
    )
    bus.publish(make("tool.done"))
    bus.publish(make("agent.done"))
    assert got == ["tool.done", "agent.done"]
    assert handle.stats.published == handle.stats.delivered == 2


def test_order_is_priority_then_age(bus: EventBus) -> None:
    """Lower numbers first; ties in order of subscription, whatever the pattern."""
    got: list[str] = []
    bus.subscribe("**", lambda event: got.append("second"))
    bus.subscribe("a.*", lambda event: got.append("third"))
    bus.subscribe("a.b", lambda event: got.append("first"), priority=-1)
    bus.publish(make("a.b"))
    assert got == ["first", "second", "third"]


def test_delivery_is_inline(bus: EventBus) -> None:
    """The handler runs in the publisher's thread and context, before publish returns."""
    variable = contextvars.ContextVar("variable", default="outside")
    seen: list[tuple[str, int]] = []
    bus.subscribe("a", lambda event: seen.append((variable.get(), threading.get_ident())))
    variable.set("inside")
    bus.publish(make("a"))
    assert seen == [("inside", threading.get_ident())]


def test_wants_tells_whether_an_event_is_worth_making(bus: EventBus) -> None:
    """Nobody listening costs one lookup; the answer follows the subscriptions."""
    assert not bus.wants("a.b")
    assert bus.emit("a.b") is None
    handle = bus.subscribe("a.*", lambda event: None)
    assert bus.wants("a.b")
    assert not bus.wants("b")
    assert bus.emit("a.b", 1, source="me").source == "me"  # type: ignore[union-attr]
    handle.unsubscribe()
    assert not bus.wants("a.b")


def test_unsubscribing_stops_delivery_and_leaves_nothing(bus: EventBus) -> None:
    """After it no event arrives, the list is empty, and the trie has no branch left."""
    got: list[UniversalEvent] = []
    handles = [bus.subscribe(pattern, got.append) for pattern in ("a.b", "a.*", "**.b", "{a,x?}.b")]
    assert len(bus.subscriptions()) == 4
    assert [handle.unsubscribe() for handle in handles] == [True] * 4
    bus.publish(make("a.b"))
    assert not got
    assert not bus.subscriptions()
    assert bus._root.bare
    assert not handles[0].unsubscribe()
    assert not handles[0].active


def test_a_pattern_can_be_unsubscribed(bus: EventBus) -> None:
    """Everybody who used that very pattern goes."""
    bus.subscribe("a.*", lambda event: None)
    bus.subscribe(["b", "a.*"], lambda event: None)
    bus.subscribe("a.b", lambda event: None)
    assert bus.unsubscribe_pattern("a.*") == 2
    assert [each.patterns for each in bus.subscriptions()] == [("a.b",)]


def test_a_lambda_is_never_lost(bus: EventBus) -> None:
    """The bus holds the handler; nobody has to keep the handle."""
    got: list[UniversalEvent] = []
    bus.subscribe("a", lambda event: got.append(event))  # noqa: PLW0108 - a lambda on purpose
    gc.collect()
    bus.publish(make("a"))
    assert len(got) == 1


def test_a_handle_is_a_context_manager(bus: EventBus) -> None:
    """Leaving the block ends the subscription."""
    with bus.subscribe("a", lambda event: None) as handle:
        assert handle.active
    assert not handle.active


def test_subscribing_in_the_middle_of_a_publish_is_safe(bus: EventBus) -> None:
    """The running publish serves those it found; the next one sees the change."""
    got: list[str] = []

    def first(event: UniversalEvent) -> None:
        got.append("first")
        handle.unsubscribe()
        bus.subscribe("a", lambda event: got.append("new"))

    handle = bus.subscribe("a", first)
    bus.subscribe("a", lambda event: got.append("second"))
    bus.publish(make("a"))
    assert got == ["first", "second"]
    bus.publish(make("a"))
    assert got == ["first", "second", "second", "new"]


def test_a_filter_lets_only_some_through(bus: EventBus) -> None:
    """`where` decides, and what it turns away is counted."""
    got: list[Any] = []
    handle = bus.subscribe("n", lambda event: got.append(event.data), where=lambda e: e.data > 1)
    for number in range(4):
        bus.publish(make("n", number))
    assert got == [2, 3]
    assert (handle.stats.delivered, handle.stats.filtered) == (2, 2)


def test_a_filter_may_be_conditions_on_fields(bus: EventBus) -> None:
    """The same conditions as in a query."""
    got: list[Any] = []
    where = {"data.amount": (">=", 2), "source": "shop"}
    bus.subscribe("n", lambda event: got.append(event.data["amount"]), where=where)
    for number in range(4):
        bus.publish(make("n", {"amount": number}, source="shop"))
        bus.publish(make("n", {"amount": number}))
    assert got == [2, 3]
    with pytest.raises(EventError, match="condition on 'data'"):
        bus.subscribe("n", print, where={"data": ("~", 1)})


@pytest.mark.parametrize("event_type", [None, 7, b"n"])
def test_an_event_without_a_name_is_refused(bus: EventBus, event_type: Any) -> None:
    """One clear error, to whoever made it."""
    with pytest.raises(EventError, match="is not text"):
        bus.publish(make(event_type))


def test_a_failing_filter_is_contained(bus: EventBus) -> None:
    """A filter that raises turns the event away and counts as an error."""
    handle = bus.subscribe("n", lambda event: None, where=lambda event: event.data["x"])
    bus.publish(make("n", {}))
    assert (handle.stats.delivered, handle.stats.filtered, handle.stats.errors) == (0, 1, 1)


def test_a_handler_that_raises_is_contained(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Others are served, errors are counted, the log has one line per change of state."""
    got: list[Any] = []
    broken = True

    def fragile(event: UniversalEvent) -> None:
        if broken:
            raise KeyError("oops")

    handle = bus.subscribe("a", fragile, name="fragile")
    bus.subscribe("a", lambda event: got.append(event.data))
    with caplog.at_level(logging.INFO):
        for number in range(3):
            bus.publish(make("a", number))
        broken = False
        for number in range(3, 5):
            bus.publish(make("a", number))
    assert got == [0, 1, 2, 3, 4]
    assert (handle.stats.delivered, handle.stats.errors) == (5, 3)
    assert [letter.event.data for letter in handle.dead_letters] == [0, 1, 2]
    assert handle.dead_letters[0].error_type == "KeyError"
    assert [record.message for record in caplog.records] == [
        "the handler of 'fragile' failed",
        "the handler of 'fragile' works again",
    ]


def test_a_handler_error_is_announced_without_recursion(bus: EventBus) -> None:
    """An event tells of it, and a handler of that event that fails too ends it there."""
    seen: list[UniversalEvent] = []

    def fails(event: UniversalEvent) -> None:
        raise ValueError

    bus.subscribe("a", fails, name="bad")
    bus.subscribe("event:handler_error", fails, name="worse")
    bus.subscribe("event:handler_error", seen.append)
    cause = make("a", correlation_id="run-1")
    bus.publish(cause)
    assert [event.data for event in seen] == [
        {
            "subscription": "bad",
            "event_id": cause.id,
            "event_type": "a",
            "error": {"type": "ValueError"},
        }
    ]
    assert seen[0].correlation_id == "run-1"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_process_goes_through(bus: EventBus, error: type[BaseException]) -> None:
    """A handler may end the process or be interrupted; that is no failure to contain."""

    def leave(event: UniversalEvent) -> None:
        raise error

    bus.subscribe("a", leave)
    with pytest.raises(error):
        bus.publish(make("a"))


def test_a_handler_that_keeps_failing_is_removed(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    """After so many failures in a row it goes, and the log says so; a success starts anew."""

    def fails(event: UniversalEvent) -> None:
        if event.data:
            raise ValueError

    handle = bus.subscribe("a", fails, max_errors=3)
    for bad in (True, True, False, True, True):
        bus.publish(make("a", bad))
    assert handle.active
    bus.publish(make("a", True))
    assert not handle.active
    assert "removed after 3 failures in a row, the last a ValueError" in caplog.text
    assert len(handle.dead_letters) == 5


def test_handlers_that_publish_into_themselves_are_cut(bus: EventBus) -> None:
    """Two of them would multiply without end; both are removed, the host goes on."""
    calls = [0]

    def echo(event: UniversalEvent) -> None:
        calls[0] += 1
        bus.publish(make("a"))

    one, two = bus.subscribe("a", echo), bus.subscribe("**", echo)
    bus.publish(make("a"))
    assert not one.active
    assert not two.active
    assert calls[0] < 20_000


def test_a_deep_caller_does_not_cost_a_good_subscriber(bus: EventBus) -> None:
    """A recursion error that is the host's own removes nobody."""

    def needs_room(event: UniversalEvent, left: int = 60) -> None:
        if left:
            needs_room(event, left - 1)

    handle = bus.subscribe("a", needs_room)

    def dive() -> None:
        bus.publish(make("a"))
        dive()

    with pytest.raises(RecursionError):
        dive()
    assert handle.active


@pytest.mark.parametrize(
    ("arguments", "options", "problem"),
    [
        (("a", None), {"delivery": "inline"}, "cannot be served inline"),
        (("a", print), {"capacity": 3}, "needs a queue"),
        (("a", print), {"delivery": "pigeon"}, "is 'pigeon'"),
        (("a", print), {"delivery": "queued", "capacity": 0}, "let at least 1"),
        (("a", print), {"delivery": "queued", "overflow": "burn"}, "use one of drop_oldest"),
        (("a", print), {"delivery": "queued", "low_water": 0.9}, "water marks"),
        (("a", print), {"rate_limit": -1}, "above 0"),
        (("a", 7), {}, "cannot be called"),
        (((), print), {}, "has no pattern"),
        (("a", print), {"speed": 3}, "option 'speed' is unknown"),
    ],
)
def test_a_wrong_subscription_is_refused(
    bus: EventBus, arguments: Any, options: Any, problem: str
) -> None:
    """One clear error, and nothing subscribed."""
    with pytest.raises(EventError, match=problem):
        bus.subscribe(*arguments, **options)
    with pytest.raises(PatternError):
        bus.subscribe(["ok", "a.."], print)
    assert not bus.subscriptions()


PATTERN = st.sampled_from(
    ["a", "b", "*", "a.*", "*.b", "**", "a.**", "**.b", "a?", "[ab].b", "{a,b}"]
)
NAME = st.sampled_from(["a", "b", "a.b", "b.b", "ab", "a.a.b", "a:b", ""])


@given(st.lists(st.tuples(st.booleans(), PATTERN, NAME), max_size=30))
def test_routing_agrees_with_the_reference_at_all_times(
    steps: list[tuple[bool, str, str]],
) -> None:
    """Subscribe, unsubscribe and publish in any order: each delivery is as the oracle says."""
    bus, got, live = EventBus(), [], {}
    for number, (subscribe, pattern, name) in enumerate(steps):
        if subscribe:
            handle = bus.subscribe(pattern, lambda event, number=number: got.append(number))
            live[number] = (pattern, handle)
        elif live:
            live.pop(min(live))[1].unsubscribe()
        got.clear()
        bus.publish(make(name))
        assert got == [each for each, (text, _) in live.items() if matches(text, name)]
        assert bus.wants(name) is bool(got)


SEGMENTS = st.sampled_from(["a", "b", "*", "**", "?", "a*", "*b", "[ab]", "{a,b}", "{a.b,**}"])
ROWS = st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join)
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "c", ""]), min_size=1, max_size=5).map(".".join)


@pytest.mark.parametrize("spelled", [0, 1, router.MAX_SPELLED])
@pytest.mark.parametrize("held", [0, 7, router.MAX_HELD])
@given(patterns=st.lists(ROWS, max_size=5), names=st.lists(NAMES, max_size=20))
def test_what_was_learnt_from_other_names_changes_no_answer(
    patterns: list[str], names: list[str], held: int, spelled: int
) -> None:
    """Many names in a row are answered as by the oracle, with room to remember much or nothing."""
    with mock.patch.multiple(router, MAX_HELD=held, MAX_SPELLED=spelled, MAX_CACHED=3):
        bus, got = EventBus(), list[int]()
        for number, pattern in enumerate(patterns):
            bus.subscribe(pattern, lambda event, number=number: got.append(number))
        for name in names:
            got.clear()
            bus.publish(make(name))
            assert got == [each for each, text in enumerate(patterns) if matches(text, name)]


def test_no_pattern_makes_the_router_hold_more_than_its_bound(bus: EventBus) -> None:
    """A pattern with a million states costs what it costs without any, and memory stays."""
    handle = bus.subscribe("**.a" + ".*" * 20, lambda event: None)
    choose, wanted = random.Random(7), 0
    for _ in range(2_000):
        row = choose.choices("ab", k=60)
        wanted += row[-21] == "a"
        bus.publish(make(".".join(row)))
        assert bus._routes._held <= router.MAX_HELD
        assert len(bus._routes._states) <= router.MAX_HELD
    bus.publish(make(".".join(choose.choices("ab", k=100_000))))
    assert bus._routes._held <= router.MAX_HELD
    assert handle.stats.delivered in (wanted, wanted + 1)


def states() -> int:
    """How many states of automata there are in the process."""
    return sum(isinstance(each, router.State) for each in gc.get_objects())


def test_subscriptions_that_came_and_went_leave_no_garbage(bus: EventBus) -> None:
    """What the router learnt goes with the change that made it stale, without the collector."""
    bus.subscribe(["**.done", "a.*"], lambda event: None)
    gc.collect()
    before = states()
    gc.disable()
    try:
        for number in range(200):
            bus.publish(make(f"a.{number}.b.done"))
            with bus.subscribe("a.b", lambda event: None):
                bus.publish(make("a.b"))
        assert states() - before < 20
    finally:
        gc.enable()


def test_the_cache_stays_bounded(bus: EventBus) -> None:
    """Names without end leave no more than the cache's bound behind; long names are not kept."""
    handle = bus.subscribe("name.*", lambda event: None)
    for number in range(50_000):
        bus.publish(make(f"name.{number}"))
        assert len(bus._routes) <= router.MAX_CACHED
    bus.publish(make("name." + "x" * 1_000_000))
    assert max(map(len, bus._routes)) <= router.MAX_CACHED_LENGTH
    assert handle.stats.delivered == 50_001


def test_threads_publish_and_subscribe_at_once(bus: EventBus) -> None:
    """Four publish while two subscribe and leave: nobody misses one, no count is off."""
    steady = bus.subscribe("a.*", lambda event: None)
    stop = threading.Event()

    def publish() -> None:
        for number in range(10_000):
            bus.publish(make(f"a.{number % 100}"))

    def churn() -> None:
        while not stop.is_set():
            bus.subscribe("{a,b}.**", lambda event: None).unsubscribe()

    publishers = [threading.Thread(target=publish) for _ in range(4)]
    churners = [threading.Thread(target=churn) for _ in range(2)]
    for thread in (*publishers, *churners):
        thread.start()
    for thread in publishers:
        thread.join()
    stop.set()
    for thread in churners:
        thread.join()
    assert steady.stats.delivered == 40_000
    assert bus.subscriptions() == (steady,)


def test_the_facade_speaks_to_the_default_bus() -> None:
    """`Event` subscribes, emits and lists as scripts do."""
    got: list[UniversalEvent] = []

    @Event.on("facade.*", name="decorated")
    def handler(event: UniversalEvent) -> None:
        got.append(event)

    sent = Event.emit({"event_type": "facade.one", "payload": {"n": 1}, "correlation_id": "c"})
    assert got == [sent]
    assert sent.payload == {"n": 1}
    assert Event.emit({"event_type": "facade.two", "data": 2}).data == 2
    assert Event.publish("facade.three", 3, tags=("x",)).tags == ("x",)
    listed = [each for each in Event.list_subscriptions() if each["name"] == "decorated"]
    assert [(each["patterns"], each["stats"].delivered) for each in listed] == [(["facade.*"], 3)]
    assert Event.unsubscribe_pattern("facade.*") == 1
    assert callable(handler)


@pytest.mark.parametrize(
    "bad", [{}, {"event_type": ""}, {"event_type": 3}, {"event_type": "a", "colour": 1}]
)
def test_the_facade_refuses_what_is_no_event(bad: dict[str, Any]) -> None:
    """One clear error that says how to mend it."""
    with pytest.raises(EventError):
        Event.emit(bad)
