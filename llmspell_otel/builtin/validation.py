"""Checking a tool's input by a JSON Schema or a pydantic model."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from llmspell_otel.builtin.detection import own_rule

Check = Callable[[Mapping[str, Any]], str | None]
"""Gives what is wrong with an input, without its values; None if nothing is."""

_SHOWN: Final = 200


def check_of(schema: object) -> Check:
    """The check that *schema* asks for.

    Args:
        schema: A JSON Schema, a pydantic model, or ``"module:Model"``.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(schema, str):
        schema = _imported(schema)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _by_model(schema)
    if isinstance(schema, Mapping):
        return _by_schema(schema)
    raise ValueError(
        f"{type(schema).__name__} is no JSON Schema, no pydantic model, no 'module:Model'"
    )


def _imported(path: str) -> object:
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path!r} cannot be imported ({error}); write 'module:Model'") from None


def _by_model(model: type[BaseModel]) -> Check:
    def check(given: Mapping[str, Any]) -> str | None:
        try:
            model.model_validate(dict(given))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
            return _said(problem["loc"], problem["type"])
        return None

    return check


def _by_schema(schema: Mapping[str, Any]) -> Check:
    try:
        jsonschema: Any = import_module("jsonschema")
        registry = import_module("referencing").Registry()
    except ImportError:
        raise ValueError(
            "a JSON Schema needs jsonschema: pip install 'llmspell-otel[security]'"
        ) from None
    for pattern in _patterns(schema):
        own_rule("schema", pattern)
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"is no JSON Schema: {error.message[:_SHOWN]}") from None
    # A registry of its own: a reference to another address is refused, not fetched.
    validator = kind(schema, registry=registry)

    def check(given: Mapping[str, Any]) -> str | None:
        for error in validator.iter_errors(dict(given)):
            return _said(error.absolute_path, str(error.validator))
        return None

    return check


def _patterns(schema: Any) -> Iterator[str]:
    """Every regular expression in *schema*."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        if isinstance(schema.get("patternProperties"), Mapping):
            yield from schema["patternProperties"]
        for value in schema.values():
            yield from _patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _patterns(value)


def _said(path: Any, rule: str) -> str:
    where = ".".join(str(step) for step in path) or "the input"
    return f"{where[:_SHOWN]} breaks {rule!r}"
