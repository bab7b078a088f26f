"""Reading what SDKs hand us: objects and plain JSON alike."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from opentelemetry.util.types import AttributeValue


def get(thing: Any, *path: str) -> Any:
    """What stands at *path* in *thing*, by attribute or key; None where the path ends early."""
    for name in path:
        if isinstance(thing, Mapping):
            thing = cast("Mapping[str, Any]", thing).get(name)
        else:
            thing = getattr(thing, name, None)
        if thing is None:
            return None
    return thing


def plain(thing: Any) -> Any:
    """*thing* as plain JSON data, without what was never set; other objects as their text."""
    if thing is None or isinstance(thing, (str, int, float, bool)):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(item) for item in cast("Iterable[Any]", thing)]
    dump = getattr(thing, "model_dump", None)
    if dump is not None and not isinstance(thing, type):
        # An SDK's object may carry a newer provider's values: dump it as it is, without a warning.
        return dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return str(thing)


def present(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The *attributes* that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


def number(value: Any) -> int | float | None:
    """*value* if it is a number: sentinels that say "not given" are none."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def text(value: Any) -> str | None:
    """*value* if it is a text that says something."""
    return value if isinstance(value, str) and value else None
