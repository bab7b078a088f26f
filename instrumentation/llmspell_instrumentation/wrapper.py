"""The wrapper that stands in for a library's function: invisible, copyable, picklable."""

import importlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import reduce
from typing import TYPE_CHECKING, Any, SupportsIndex

import wrapt

if TYPE_CHECKING:
    _BoundFunctionWrapper = wrapt.BoundFunctionWrapper[..., Any]
    _FunctionWrapper = wrapt.FunctionWrapper[..., Any]
else:  # wrapt 1's classes take no parameters
    _BoundFunctionWrapper = wrapt.BoundFunctionWrapper
    _FunctionWrapper = wrapt.FunctionWrapper

Advice = Callable[[Callable[..., Any], Any, tuple[Any, ...], Mapping[str, Any]], Any]
"""What a wrapper calls in the original's place: (original, instance, args, kwargs) -> result."""


def find(module: str, qualname: str) -> Any:
    """Import *module* and walk down to *qualname*; this is how a pickled wrapper comes back."""
    return reduce(getattr, qualname.split("."), importlib.import_module(module))


class BoundWrapper(_BoundFunctionWrapper):
    """A `Wrapper` bound to its instance; copied and pickled as a bound method is."""

    def __copy__(self) -> "BoundWrapper":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        instance = self._self_instance
        if instance is None or isinstance(instance, type):
            return self
        return self._self_parent.__get__(deepcopy(instance, memo), type(instance))

    def __reduce__(self) -> Any:
        if self._self_instance is None:
            return find, (self.__module__, self.__wrapped__.__qualname__)
        return getattr, (self._self_instance, self.__wrapped__.__name__)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        return self.__reduce__()


class Wrapper(_FunctionWrapper):
    """A function wrapper that keeps signature, type and coroutine-ness, and survives copying.

    wrapt's own wrappers raise `NotImplementedError` when they, or anything that holds one,
    are copied or pickled.
    """

    __bound_function_wrapper__ = BoundWrapper

    def __copy__(self) -> "Wrapper":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Wrapper":
        return self

    def __reduce__(self) -> Any:
        return find, (self.__module__, self.__wrapped__.__qualname__)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        return self.__reduce__()
