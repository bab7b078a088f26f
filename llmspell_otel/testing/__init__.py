"""A kit for testing agents without a provider: a model server that replies by script.

It speaks OpenAI's wire formats on loopback, so the real SDKs and frameworks run against it
unchanged. Needs `pip install 'llmspell-otel[testing]'`.
"""

from llmspell_otel.testing.request import ModelRequest, ToolResult
from llmspell_otel.testing.script import Reply, Rule, Script, ScriptedToolCall, Usage
from llmspell_otel.testing.server import ModelServer

__all__ = [
    "ModelRequest",
    "ModelServer",
    "Reply",
    "Rule",
    "Script",
    "ScriptedToolCall",
    "ToolResult",
    "Usage",
]
