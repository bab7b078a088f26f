"""The rows an adapter is made of: where a library is met, and how its calls are read."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from llmspell_instrumentation.versions import satisfied
from llmspell_otel.operations.call import Call, Codec, Kind, Shape

_SHAPES: tuple[tuple[Callable[[Any], bool], Shape], ...] = (
    (inspect.isasyncgenfunction, Shape.ASYNC_GENERATOR),
    (inspect.iscoroutinefunction, Shape.ASYNC),
    (inspect.isgeneratorfunction, Shape.GENERATOR),
)

Through = Callable[[Any, Call], Any]
"""The door a join point's calls go through: (aspect, call) -> what the caller gets."""


def through_engine(aspect: Any, call: Call) -> Any:
    """Hand the *call* to the engine; the door of every join point that needs no other."""
    from llmspell_otel.operations import invoke

    return invoke(aspect, call)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinPoint:
    """A row: where a library is met, what a call there means, and how to read it.

    Attributes:
        target: `package.module:Class.method` or `package.module:function`.
        kind: what a call through it is.
        codec: reads the calls and writes the answers.
        shape: how the function hands back its result; found out when not given.
        requires: the library versions that have this function, if not all the adapter's.
        through: the door its calls go through; the engine's, unless a library needs more.
        overrides: the method is abstract; wrap it where subclasses define it, and new
            subclasses as they appear.
        leaves: classes (`module:Class`) that, with their subclasses, are left alone.
        takes: of those, classes that are wrapped all the same.
    """

    target: str
    kind: Kind
    codec: Codec
    shape: Shape | None = None
    requires: str | None = None
    through: Through = through_engine
    overrides: bool = False
    leaves: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The dotted name of the module to patch."""
        return self.target.partition(":")[0]

    @property
    def path(self) -> tuple[str, ...]:
        """The names that lead from the module to the function."""
        return tuple(self.target.partition(":")[2].split("."))

    @property
    def expected(self) -> bool:
        """Whether the installed library is of a version that should have this function."""
        return self.requires is None or satisfied(self.requires)

    def resolve(self) -> tuple[Any, str, Any]:
        """The owner of the function, its name there, and the function as the owner holds it.

        The module must have been imported already.

        Raises:
            LookupError: this version of the library has no such function.
        """
        *owners, name = self.path
        try:
            owner = reduce(getattr, owners, sys.modules[self.module])
            original = inspect.getattr_static(owner, name)
        except (AttributeError, KeyError) as error:
            raise LookupError(self.target) from error
        return owner, name, original


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """The join points of one library.

    Attributes:
        name: what users call it: `instrument("openai")`.
        requires: the versions it is made for, as pip writes them: `openai>=2,<4`.
        package: what the host imports of it.
        table: gives the join points. It is called when the host has imported the package, so
            codecs that are imported inside it cost nothing to programs that do not use the library.
    """

    name: str
    requires: str
    package: str
    table: Callable[[], tuple[JoinPoint, ...]]

    @property
    def expected(self) -> tuple[JoinPoint, ...]:
        """The join points that the installed version should have."""
        return tuple(point for point in self.table() if point.expected)


def shape_of(function: Any) -> Shape:
    """Tell how *function* hands back its result.

    SDKs hide `async def` behind plain decorators, so the innermost function decides.
    """
    inner = inspect.unwrap(getattr(function, "__func__", function))
    return next((shape for matches, shape in _SHAPES if matches(inner)), Shape.SYNC)
