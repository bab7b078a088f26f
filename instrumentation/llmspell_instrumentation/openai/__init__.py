"""The OpenAI SDK, 2.x and 3.x: models of every endpoint, and the tool runner."""

from llmspell_instrumentation.joinpoint import Adapter, JoinPoint

__all__ = ["ADAPTER"]


def _table() -> tuple[JoinPoint, ...]:
    from llmspell_instrumentation.openai.table import JOIN_POINTS

    return JOIN_POINTS


ADAPTER = Adapter(name="openai", requires="openai>=2,<4", package="openai", table=_table)
