"""The way OpenAI's calls take to the engine and back.

The engine meets plain models and streams only. Two things are settled here, around it:

* `with_raw_response` and `with_streaming_response` answer with the HTTP response, whose
  `parse()` gives the model or the stream. What is parsed goes through the engine, and the
  caller gets the SDK's own response object, whose `parse()` gives what came out.
* Chat streams report their usage only when asked to. They are asked, and the additional
  chunk is kept from a caller who did not ask.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmspell_instrumentation.joinpoint import through_engine
from llmspell_instrumentation.openai import client, native
from llmspell_instrumentation.openai.codec import given
from llmspell_instrumentation.openai.sifting import sift
from llmspell_instrumentation.openai.whole import AsyncWhole, Whole, watch
from llmspell_instrumentation.reading import plain
from llmspell_otel.guard import guard
from llmspell_otel.operations.call import Call, Shape
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import Provider

RAW_HEADER = "X-Stainless-Raw-Response"

# Others speaking this protocol may refuse a request for a field they do not know.
_REPORTING = frozenset({Provider.OPENAI, Provider.AZURE_AI_OPENAI})


@dataclass(frozen=True, slots=True)
class Door:
    """Sends a call to the engine; *asks* for the usage of streams where that is possible."""

    asks: bool = False

    def __call__(self, aspect: Any, call: Call) -> Any:
        """What the caller gets: a result, or a coroutine of one."""
        exchange = guard.contained("reading a call's headers", self._exchange, aspect, call)
        if exchange is None:
            return through_engine(aspect, call)
        result = through_engine(aspect, replace(call, target=exchange))
        if exchange.is_async:
            return _finish_async(exchange, call, result)
        return exchange.dress(call, result)

    def _exchange(self, aspect: Any, call: Call) -> "Exchange | None":
        raw = _raw(call.kwargs)
        asks = self.asks and raw != "stream" and _silent_on_usage(call)
        if raw is None and not asks:
            return None
        return Exchange(call.target, raw=raw, asks=asks, is_async=aspect.shape is Shape.ASYNC)


async def _finish_async(exchange: "Exchange", call: Call, result: Any) -> Any:
    return exchange.dress(call, await result)


def _raw(arguments: Mapping[str, Any]) -> str | None:
    headers = arguments.get("extra_headers")
    return headers.get(RAW_HEADER) if isinstance(headers, Mapping) else None


def _silent_on_usage(call: Call) -> bool:
    if not call.kwargs.get("stream"):
        return False
    options = call.kwargs.get("stream_options")
    if given(options) and (not isinstance(options, Mapping) or "include_usage" in options):
        return False
    return client.peer(call).get(semconv.PROVIDER_NAME) in _REPORTING


class Exchange:
    """The SDK's method, as the engine calls it: raw responses unpacked, usage asked for."""

    def __init__(
        self, original: Callable[..., Any], *, raw: str | None, asks: bool, is_async: bool
    ) -> None:
        self.original = original
        self.__name__ = getattr(original, "__name__", "create")
        self.is_async = is_async
        self.usages: dict[str, Any] = {}
        self._raw = raw
        self._asks = asks
        self._response: Any = None
        self._parsed: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the request; the result is a model or a stream, or a coroutine of one."""
        if self._asks and kwargs.get("stream"):
            options = kwargs.get("stream_options")
            options = options if isinstance(options, Mapping) else {}
            kwargs["stream_options"] = {**options, "include_usage": True}
        if self.is_async:
            return self._call_async(args, kwargs)
        result = self.original(*args, **kwargs)
        if self._raw is not None:
            result = self._unpack(result, kwargs)
        return self._sift(result, kwargs)

    async def _call_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = await self.original(*args, **kwargs)
        if self._raw is not None:
            result = self._unpack(result, kwargs)
            if hasattr(result, "__await__"):
                result = self._parsed = await result
        return self._sift(result, kwargs)

    def _unpack(self, response: Any, kwargs: Mapping[str, Any]) -> Any:
        self._response = response
        if self._raw == "stream" and not kwargs.get("stream"):
            self._parsed = AsyncWhole(response) if self.is_async else Whole(response)
            return self._parsed
        try:
            self._parsed = response.parse()
        except Exception:
            # The caller will meet this error at its own `parse()`; the call itself went well.
            self._parsed = response
        return self._parsed

    def _sift(self, result: Any, kwargs: Mapping[str, Any]) -> Any:
        return sift(result, self.usages) if self._asks and kwargs.get("stream") else result

    def dress(self, call: Call, result: Any) -> Any:
        """Hand *result* to the caller as it asked for it: plain, or in a raw response."""
        try:
            return self._dress(call, result)
        except Exception as error:
            guard.report("handing back a raw response", error)
            return result if self._response is None else self._response

    def _dress(self, call: Call, result: Any) -> Any:
        if self._raw is None or result is self._response:
            return result
        if isinstance(self._parsed, Whole) and _proxies(result, self._parsed):
            return watch(self._response, result)
        if result is self._parsed:
            return self._response
        is_stream = hasattr(result, "_iterator")
        if not is_stream or not _proxies(result, self._parsed):
            return raw_response(call, self._raw, result)
        self._response._parsed_by_type[self._response._cast_to] = result  # noqa: SLF001 - where parse() looks
        if hasattr(self._response, "close"):
            self._response.close = result.close
        return self._response


def _proxies(result: Any, original: Any) -> bool:
    """Whether *result* stands for the very *original* (and is no answer of a hook)."""
    if original is None:
        return False
    return result is original or getattr(result, "__wrapped__", None) is original


def raw_response(call: Call, raw: str, result: Any) -> Any:
    """The SDK's response object around a *result* that no provider sent."""
    from openai import _legacy_response, _response
    from openai._models import FinalRequestOptions

    is_stream = hasattr(result, "_iterator")
    if is_stream:
        response = result.response
    else:
        response = native.response(call, json.dumps(plain(result)).encode(), "application/json")
    kind: Any = _legacy_response.LegacyAPIResponse
    if raw == "stream":
        is_async = call.instance.__class__.__name__.startswith("Async")
        kind = _response.AsyncAPIResponse if is_async else _response.APIResponse
    made = kind(
        raw=response,
        cast_to=type(result),
        client=call.instance._client,  # noqa: SLF001 - the SDK hands its responses just this
        stream=is_stream,
        stream_cls=None,
        options=FinalRequestOptions.construct(method="post", url=""),
    )
    made._parsed_by_type[type(result)] = result  # noqa: SLF001 - where parse() looks
    return made
