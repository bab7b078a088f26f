"""Attaching adapters and detaching them."""

import copy
import dataclasses
import importlib
import inspect
import logging
import pickle
import sys
import threading
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from llmspell_instrumentation import weaver
from llmspell_instrumentation.joinpoint import shape_of
from llmspell_instrumentation.weaver import State, Weaver, attach
from llmspell_instrumentation.wrapper import Wrapper
from llmspell_otel.operations.call import Shape
from tests.instrumentation import toy

EVERYTHING = (
    "plainly",
    "later",
    "counting",
    "counting_later",
    "hidden",
    "Base.speak",
    "Base.made",
    "Base.bare",
)


def held(library: ModuleType, path: str) -> Any:
    """What the owner at *path* holds, descriptors as they are."""
    *owners, name = path.split(".")
    owner: Any = library
    for one in owners:
        owner = getattr(owner, one)
    return inspect.getattr_static(owner, name)


def test_detaching_puts_back_the_very_same_objects(toy_library: ModuleType, toy_name: str) -> None:
    """After detaching, every function is the object it was."""
    before = {path: held(toy_library, path) for path in EVERYTHING}
    attached = attach(toy.adapter(toy_name, *EVERYTHING))
    assert all(isinstance(held(toy_library, path), Wrapper) for path in EVERYTHING)
    attached.close()
    assert all(held(toy_library, path) is before[path] for path in EVERYTHING)


def test_an_inherited_method_stays_inherited(toy_library: ModuleType, toy_name: str) -> None:
    """Wrapping a subclass's inherited method leaves no trace on the subclass."""
    attached = attach(toy.adapter(toy_name, "Child.speak"))
    assert "speak" in vars(toy_library.Child)
    assert not isinstance(vars(toy_library.Base)["speak"], Wrapper)
    attached.close()
    assert "speak" not in vars(toy_library.Child)


def test_attaching_twice_wraps_once(toy_library: ModuleType, toy_name: str) -> None:
    """A function that is wrapped already is not wrapped again, and is unwrapped by its owner."""
    original = toy_library.plainly
    first = attach(toy.adapter(toy_name, "plainly"))
    second = attach(toy.adapter(toy_name, "plainly"))
    assert toy_library.plainly.__wrapped__ is original
    second.close()
    assert isinstance(toy_library.plainly, Wrapper)
    first.close()
    assert toy_library.plainly is original


def test_a_wrapper_under_another_goes_quiet(toy_library: ModuleType, toy_name: str) -> None:
    """What somebody else wrapped over ours is left alone; ours only passes through."""
    attached = attach(toy.adapter(toy_name, "plainly"))
    ours = toy_library.plainly

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    toy_library.plainly = theirs
    attached.close()
    assert toy_library.plainly is theirs
    assert theirs("x") == "x"


def test_bound_methods_taken_while_attached_outlive_it(
    toy_library: ModuleType, toy_name: str
) -> None:
    """A method the host keeps goes on working after detaching."""
    with attach(toy.adapter(toy_name, "Base.speak")):
        speak = toy_library.Base("kept").speak
    assert speak("word") == "kept: word"


def test_a_library_is_patched_when_it_is_imported(toy_name: str) -> None:
    """Attaching imports nothing; the import that comes later finds its functions wrapped."""
    attached = attach(toy.adapter(toy_name, "plainly"))
    library = importlib.import_module(f"{toy_name}.inner")
    assert isinstance(library.plainly, Wrapper)
    attached.close()
    assert not isinstance(library.plainly, Wrapper)


def test_detaching_before_the_import_cancels_it(toy_name: str) -> None:
    """What was detached before the import leaves the imported library alone."""
    attach(toy.adapter(toy_name, "plainly")).close()
    library = importlib.import_module(f"{toy_name}.inner")
    assert not isinstance(library.plainly, Wrapper)


def test_a_missing_target_is_named_once_and_the_rest_is_wrapped(
    toy_library: ModuleType, toy_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A renamed private function costs its own join point, and one warning that names it."""
    with (
        caplog.at_level(logging.WARNING),
        attach(toy.adapter(toy_name, "Base._renamed", "plainly")),
    ):
        assert isinstance(toy_library.plainly, Wrapper)
    (record,) = caplog.records
    assert f"{toy_name}.inner:Base._renamed" in record.getMessage()
    assert importlib.metadata.version("wrapt") in record.getMessage()


def test_a_missing_module_is_named_too(toy_name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A module that this version does not have is reported, not waited for."""
    importlib.import_module(toy_name)
    adapter = toy.adapter(f"{toy_name}.gone", "function")
    with caplog.at_level(logging.WARNING), attach(adapter):
        pass
    (record,) = caplog.records
    assert f"{toy_name}.gone.inner:function" in record.getMessage()


def test_a_join_point_of_other_versions_is_not_missed(
    toy_library: ModuleType, toy_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that names the versions it is for is silent in all others."""
    (row,) = toy.adapter(toy_name, "not_yet").table()
    later = dataclasses.replace(row, requires="wrapt>=999")
    adapter = dataclasses.replace(toy.adapter(toy_name), table=lambda: (later,))
    with caplog.at_level(logging.WARNING), attach(adapter):
        pass
    assert not caplog.records


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("plainly", Shape.SYNC),
        ("later", Shape.ASYNC),
        ("hidden", Shape.ASYNC),
        ("counting", Shape.GENERATOR),
        ("counting_later", Shape.ASYNC_GENERATOR),
        ("Base.made", Shape.SYNC),
    ],
)
def test_shapes_are_found_through_decorators(
    toy_library: ModuleType, path: str, shape: Shape
) -> None:
    """A coroutine function behind a plain decorator is a coroutine function."""
    assert shape_of(held(toy_library, path)) is shape


def test_a_wrapper_looks_like_the_function(toy_library: ModuleType, toy_name: str) -> None:
    """Signature, documentation, type and coroutine-ness are the original's."""
    plainly, later = toy_library.plainly, toy_library.later
    signature = inspect.signature(plainly)
    with attach(toy.adapter(toy_name, "plainly", "later", "counting", "counting_later")):
        assert inspect.signature(toy_library.plainly) == signature
        assert toy_library.plainly.__doc__ == plainly.__doc__
        assert isinstance(toy_library.plainly, type(plainly))
        assert inspect.iscoroutinefunction(toy_library.later) is inspect.iscoroutinefunction(later)
        assert inspect.isgeneratorfunction(toy_library.counting)
        assert inspect.isasyncgenfunction(toy_library.counting_later)


def test_wrappers_survive_copying_and_pickling(toy_library: ModuleType, toy_name: str) -> None:
    """Functions and bound methods, alone and inside structures, copy and pickle as before."""
    with attach(toy.adapter(toy_name, "plainly", "Base.speak", "Base.made")):
        function, base = toy_library.plainly, toy_library.Base("b")
        assert copy.copy(function) is function
        assert copy.deepcopy({"f": function})["f"] is function
        assert pickle.loads(pickle.dumps(function)) is function
        twin = copy.deepcopy([base.speak])[0]
        assert twin.__self__ is not base
        assert twin("x") == "b: x"
        assert pickle.loads(pickle.dumps(base.speak))("x") == "b: x"
        assert copy.copy(base.speak)("x") == "b: x"
        assert pickle.loads(pickle.dumps(toy_library.Base.made))() == "Base"
        assert pickle.loads(pickle.dumps(toy_library.Base.speak))(base, "x") == "b: x"


class Shelf:
    """Entry points for a weaver, without installing a distribution for each test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries: dict[str, EntryPoint] = {}
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(weaver, "discover", lambda: self.entries)

    def put(self, adapter: weaver.Adapter) -> None:
        """Offer *adapter* under its name."""
        module = ModuleType(f"shelf_{adapter.name}")
        module.ADAPTER = adapter  # type: ignore[attr-defined]
        self._monkeypatch.setitem(sys.modules, module.__name__, module)
        value = f"{module.__name__}:ADAPTER"
        self.entries[adapter.name] = EntryPoint(adapter.name, value, weaver.GROUP)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """An empty shelf of adapters."""
    return Shelf(monkeypatch)


def test_instrumenting_by_name_and_again(
    toy_library: ModuleType, toy_name: str, shelf: Shelf
) -> None:
    """Instrument twice, uninstrument, instrument again: there is one wrapper at most."""
    shelf.put(toy.adapter(toy_name, "plainly"))
    original = toy_library.plainly
    for _ in range(2):
        first, second = Weaver().instrument(toy_name), Weaver().instrument()
        assert [one.state for one in (*first, *second)] == [State.ATTACHED, State.ATTACHED]
        assert toy_library.plainly.__wrapped__ is original
        Weaver().uninstrument(toy_name)
        assert toy_library.plainly is original
    Weaver().uninstrument(toy_name)


def test_the_status_tells_what_was_found(toy_name: str, shelf: Shelf) -> None:
    """A status goes from detached over pending to attached, and names every join point."""
    shelf.put(toy.adapter(toy_name, "plainly", "gone"))
    assert Weaver().status(toy_name)[0].state is State.DETACHED
    (told,) = Weaver().instrument(toy_name)
    (asked,) = Weaver().status(toy_name)
    assert (told.state, told.pending) == (State.PENDING, ())
    assert (asked.state, len(asked.pending)) == (State.PENDING, 2)
    importlib.import_module(f"{toy_name}.inner")
    (attached,) = Weaver().status(toy_name)
    assert attached.state is State.ATTACHED
    assert attached.found == (f"{toy_name}.inner:plainly",)
    assert attached.missing == (f"{toy_name}.inner:gone",)
    Weaver().uninstrument()


@pytest.mark.parametrize(
    "case",
    [
        ("wrapt>=999", State.UNSUPPORTED, "needs wrapt>=999"),
        ("no-such-library>=1", State.MISSING, "pip install"),
    ],
)
def test_a_library_of_another_version_or_none_is_left_alone(
    toy_library: ModuleType,
    toy_name: str,
    shelf: Shelf,
    caplog: pytest.LogCaptureFixture,
    case: tuple[str, State, str],
) -> None:
    """One message says what is wrong and how to mend it; nothing is wrapped or raised."""
    requires, state, said = case
    shelf.put(toy.adapter(toy_name, "plainly", requires=requires))
    (status,) = Weaver().instrument(toy_name)
    assert (status.state, said in status.message) == (state, True)
    assert [record.getMessage().count(status.message) for record in caplog.records] == [1]
    assert not isinstance(toy_library.plainly, Wrapper)


def test_an_unknown_or_broken_adapter_is_reported(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """A name nobody offers, and an adapter that cannot be loaded, become statuses."""
    shelf.entries["broken"] = EntryPoint("broken", "no_such_module:ADAPTER", weaver.GROUP)
    unknown, broken = Weaver().instrument("unheard-of", "broken")
    assert "known adapters: broken" in unknown.message
    assert broken.state is State.BROKEN
    assert len(caplog.records) == 2


def test_a_table_that_cannot_be_read_costs_only_its_adapter(
    toy_name: str, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """The import that has it read goes on, and the status says what is wrong."""

    def table() -> tuple[weaver.JoinPoint, ...]:
        raise RuntimeError("no table")

    shelf.put(dataclasses.replace(toy.adapter(toy_name), table=table))
    assert Weaver().instrument()[0].state is State.PENDING
    importlib.import_module(toy_name)
    (status,) = Weaver().status()
    assert status.state is State.BROKEN
    assert "no table" in status.message
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    Weaver().uninstrument()


def test_threads_may_instrument_at_once(
    toy_library: ModuleType, toy_name: str, shelf: Shelf
) -> None:
    """However many threads attach and detach, the original is underneath and comes back."""
    shelf.put(toy.adapter(toy_name, "plainly"))
    original = toy_library.plainly
    errors: list[BaseException] = []

    def turn() -> None:
        try:
            for _ in range(50):
                Weaver().instrument(toy_name)
                assert toy_library.plainly("x") == "x"
                Weaver().uninstrument(toy_name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=turn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert toy_library.plainly is original


def test_the_adapters_of_this_package_are_offered() -> None:
    """The adapters are found by their names, and load without their libraries."""
    offered = weaver.discover()
    assert {"openai", "openai-agents"} <= set(offered)
    for name in ("openai", "openai-agents"):
        assert offered[name].load().name == name
        assert offered[name].load().table()
