"""``--builtin NAME[:KEY=VALUE,…]``: built-in hooks for one run."""

from collections.abc import Iterable

import click

from llmspell_otel.errors import LlmspellError

_PREFIX = "LLMSPELL_OTEL_BUILTIN__"


def variables(asked: Iterable[str]) -> dict[str, str]:
    """The variables that switch on the built-in hooks *asked* for.

    Raises:
        click.BadParameter: there is no such built-in hook or setting; the message says what
            there is.
    """
    found: dict[str, str] = {}
    for text in asked:
        name, _, rest = text.partition(":")
        settings = _pairs(rest)
        try:
            own = _checked(name.strip(), settings)
        except LlmspellError as error:
            raise click.BadParameter(str(error), param_hint="--builtin") from None
        found[f"{_PREFIX}{own.upper()}__ENABLED"] = "true"
        for key, value in settings.items():
            found[f"{_PREFIX}{own.upper()}__{key.upper()}"] = value
    return found


def _pairs(text: str) -> dict[str, str]:
    """``a=1,b=x,y`` as a mapping; what has no ``=`` belongs to the value before it."""
    pairs: dict[str, str] = {}
    last = ""
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if equals:
            last = key.strip()
            pairs[last] = value
        elif last:
            pairs[last] += f",{part}"
        else:
            problem = f"{part!r} is no setting; write NAME:KEY=VALUE,KEY=VALUE"
            raise click.BadParameter(problem, param_hint="--builtin")
    return pairs


def _checked(name: str, settings: dict[str, str]) -> str:
    from llmspell_otel.builtin import name_of
    from llmspell_otel.settings import check

    own = name_of(name)
    check(name, settings)
    return own
