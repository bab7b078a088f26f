"""Who a client of the OpenAI SDK talks to, and what its errors are called."""

import re
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.util.types import AttributeValue

from llmspell_otel.operations.call import Call
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import Provider

_BY_HOST = (
    ("api.openai.com", Provider.OPENAI),
    (".openai.azure.com", Provider.AZURE_AI_OPENAI),
    (".cognitiveservices.azure.com", Provider.AZURE_AI_OPENAI),
    (".services.ai.azure.com", Provider.AZURE_AI_INFERENCE),
    ("models.inference.ai.azure.com", Provider.AZURE_AI_INFERENCE),
    ("generativelanguage.googleapis.com", Provider.GCP_GEMINI),
    ("aiplatform.googleapis.com", Provider.GCP_VERTEX_AI),
    ("-aiplatform.googleapis.com", Provider.GCP_VERTEX_AI),
    (".amazonaws.com", Provider.AWS_BEDROCK),
    ("api.anthropic.com", Provider.ANTHROPIC),
    (".cohere.com", Provider.COHERE),
    ("api.cohere.ai", Provider.COHERE),
    ("api.deepseek.com", Provider.DEEPSEEK),
    ("api.groq.com", Provider.GROQ),
    (".ml.cloud.ibm.com", Provider.IBM_WATSONX_AI),
    ("api.mistral.ai", Provider.MISTRAL_AI),
    ("api.moonshot.ai", Provider.MOONSHOT_AI),
    ("api.moonshot.cn", Provider.MOONSHOT_AI),
    ("api.perplexity.ai", Provider.PERPLEXITY),
    ("api.x.ai", Provider.X_AI),
)
_BY_CLASS = (("Azure", Provider.AZURE_AI_OPENAI), ("Bedrock", Provider.AWS_BEDROCK))
_DEFAULT_PORTS = {"https": 443, "http": 80, "wss": 443, "ws": 80}
_CODE = re.compile(r"[A-Za-z][\w.-]{0,63}")

_known: WeakKeyDictionary[Any, tuple[Any, dict[str, AttributeValue]]] = WeakKeyDictionary()


def peer(call: Call) -> dict[str, AttributeValue]:
    """The provider, address and port behind the client of this *call*."""
    client = getattr(call.instance, "_client", None)
    if client is None:
        return {semconv.PROVIDER_NAME: Provider.OPENAI}
    url = client.base_url
    # A client's address can be assigned anew, so what was worked out is tied to the address.
    try:
        known = _known.get(client)
        if known is None or known[0] is not url:
            known = _known[client] = (url, _read(type(client), url))
    except TypeError:  # a subclass without a hash
        return _read(type(client), url)
    return known[1]


def _read(client: type, url: Any) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        semconv.PROVIDER_NAME: str(_provider(client, url.host))
    }
    if url.host:
        attributes[semconv.SERVER_ADDRESS] = url.host
        port = url.port or _DEFAULT_PORTS.get(url.scheme)
        if port:
            attributes[semconv.SERVER_PORT] = port
    return attributes


def _provider(client: type, host: str) -> Provider:
    names = [base.__name__ for base in client.__mro__]
    for part, provider in _BY_CLASS:
        if any(part in name for name in names):
            return provider
    for name, provider in _BY_HOST:
        suffix = name if name.startswith((".", "-")) else f".{name}"
        if host == name or host.endswith(suffix):
            return provider
    return Provider.OPENAI


def error_type(error: BaseException) -> str | None:
    """The provider's error code, else its HTTP status; None for errors without either."""
    code = code_of(getattr(error, "code", None))
    if code is not None:
        return code
    status = getattr(error, "status_code", None)
    return str(status) if isinstance(status, int) else None


def code_of(code: Any) -> str | None:
    """A *code* from the network, if it looks like one: it becomes an attribute of metrics."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None
