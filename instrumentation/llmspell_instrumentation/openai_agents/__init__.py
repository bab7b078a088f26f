"""The OpenAI Agents SDK: runs, turns, hand-offs, tools, and models of other makers."""

from llmspell_instrumentation.joinpoint import Adapter, JoinPoint

__all__ = ["ADAPTER"]


def _table() -> tuple[JoinPoint, ...]:
    from llmspell_instrumentation.openai_agents.table import JOIN_POINTS

    return JOIN_POINTS


ADAPTER = Adapter(
    name="openai-agents", requires="openai-agents>=0.10,<1", package="agents", table=_table
)
