"""Wrapping an abstract method where subclasses define it."""

import sys
from types import ModuleType
from typing import Any

import pytest

from llmspell_instrumentation.attachment import weave
from llmspell_instrumentation.joinpoint import JoinPoint
from llmspell_instrumentation.wrapper import Wrapper
from llmspell_otel.operations.call import Codec, Kind


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with an abstract base, an override, and a subclass that inherits it."""
    module = ModuleType("toy_family")

    class Base:
        def ask(self) -> str:
            raise NotImplementedError

    class Early(Base):
        def ask(self) -> str:
            return "early"

    class Heir(Early):
        pass

    for cls in (Base, Early, Heir):
        cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def point(**options: Any) -> JoinPoint:
    """The family's join point."""
    return JoinPoint(
        target="toy_family:Base.ask", kind=Kind.MODEL, codec=Codec(), overrides=True, **options
    )


def test_overrides_are_wrapped_now_and_later(family: ModuleType) -> None:
    """Subclasses made before and after are wrapped; undoing restores all and stops it."""
    original = vars(family.Early)["ask"]
    undo = weave(point())

    class Late(family.Base):  # type: ignore[name-defined,misc]
        def ask(self) -> str:
            return "late"

    assert isinstance(vars(family.Early)["ask"], Wrapper)
    assert isinstance(vars(Late)["ask"], Wrapper)
    assert "ask" not in vars(family.Heir)
    assert not isinstance(vars(family.Base)["ask"], Wrapper)
    assert (Late().ask(), family.Heir().ask()) == ("late", "early")
    undo()
    assert vars(family.Early)["ask"] is original
    assert not isinstance(vars(Late)["ask"], Wrapper)
    assert "__init_subclass__" not in vars(family.Base)

    class After(family.Base):  # type: ignore[name-defined,misc]
        def ask(self) -> str:
            return "after"

    assert not isinstance(vars(After)["ask"], Wrapper)


def test_classes_seen_elsewhere_are_left_alone(family: ModuleType) -> None:
    """A left class and its heirs stay as they are, but for those named to be taken."""
    undo = weave(point(leaves=("toy_family:Early",), takes=("toy_family:Heir",)))
    assert not isinstance(vars(family.Early)["ask"], Wrapper)
    assert isinstance(vars(family.Heir)["ask"], Wrapper)
    undo()
    assert "ask" not in vars(family.Heir)


def test_the_base_keeps_its_own_subclass_hook(family: ModuleType) -> None:
    """A base that watches its subclasses itself goes on doing so."""
    met: list[str] = []

    def init_subclass(cls: type, /, **options: Any) -> None:
        met.append(cls.__name__)

    family.Base.__init_subclass__ = classmethod(init_subclass)
    before = vars(family.Base)["__init_subclass__"]
    undo = weave(point())
    type("New", (family.Base,), {})
    undo()
    assert met == ["New"]
    assert vars(family.Base)["__init_subclass__"] is before


def test_a_subclass_hook_put_over_ours_stays(family: ModuleType) -> None:
    """Undoing leaves alone what somebody else put in place meanwhile; ours only passes through."""
    undo = weave(point())
    ours, seen = family.Base.__init_subclass__, []

    def theirs(cls: type, **options: Any) -> None:
        seen.append(cls.__name__)
        ours.__func__(cls, **options)

    family.Base.__init_subclass__ = classmethod(theirs)
    undo()

    class After(family.Base):  # type: ignore[name-defined,misc]
        def ask(self) -> str:
            return "after"

    assert seen == ["After"]
    assert not isinstance(vars(After)["ask"], Wrapper)


def test_a_class_that_takes_no_wrapper_is_still_defined(family: ModuleType) -> None:
    """A failure of ours is contained: the class statement of the host goes on."""

    class Stubborn(type(family.Base)):  # type: ignore[misc]
        def __setattr__(cls, name: str, value: Any) -> None:
            raise TypeError(f"{name} is fixed")

    undo = weave(point())

    class Late(family.Base, metaclass=Stubborn):  # type: ignore[name-defined,misc]
        def ask(self) -> str:
            return "late"

    undo()
    assert Late().ask() == "late"
