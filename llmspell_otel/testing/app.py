"""The model server as an ASGI application."""

import asyncio
import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from llmspell_otel.testing import chat, embeddings, responses
from llmspell_otel.testing.request import Endpoint, Json, ModelRequest
from llmspell_otel.testing.script import Prompter, Reply, Script
from llmspell_otel.testing.wire import Ids

Headers: TypeAlias = dict[str, str]

_OK = 200
_FORMATS: Mapping[Endpoint, ModuleType] = {
    "chat": chat,
    "responses": responses,
    "embeddings": embeddings,
}


class ModelApp:
    """Answers OpenAI's endpoints by script, and keeps what it was asked.

    Serve it with any ASGI server, or let `ModelServer` do so.
    """

    def __init__(self, script: Script) -> None:
        self.prompter = Prompter(script)
        self.requests: list[ModelRequest] = []
        self.left_early: list[ModelRequest] = []
        self._ids = Ids()
        self._conversations: dict[str, list[Json]] = {}
        self._stopping = asyncio.Event()
        self._routes = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            ],
            exception_handlers={404: _unknown, 405: _unknown},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        await self._routes(scope, receive, send)

    def stop(self) -> None:
        """End what is waiting or streaming; call it on the server's loop."""
        self._stopping.set()

    async def pause(self, seconds: float, receive: Receive) -> bool:
        """Wait; say whether to go on: not if the client has left or the server stops."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return not self._stopping.is_set()
        ends = [asyncio.ensure_future(receive()), asyncio.ensure_future(self._stopping.wait())]
        done, pending = await asyncio.wait(ends, timeout=seconds, return_when="FIRST_COMPLETED")
        for task in pending:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return not done

    async def _chat(self, http: Request) -> ASGIApp:
        return await self._answer("chat", http)

    async def _responses(self, http: Request) -> ASGIApp:
        return await self._answer("responses", http)

    async def _embeddings(self, http: Request) -> ASGIApp:
        return await self._answer("embeddings", http)

    async def _answer(self, endpoint: Endpoint, http: Request) -> ASGIApp:
        headers = {"x-request-id": self._ids.next("req_"), "openai-processing-ms": "1"}
        try:
            request = self._read(endpoint, http, await http.body())
        except ValueError as error:
            return _error(Reply.error(400, f"We could not parse the JSON body: {error}"), headers)
        self.requests.append(request)
        if wrong := self._complaint(request):
            return _error(Reply.error(400, wrong), headers)
        reply = self.prompter.reply(request)
        if not await self.pause(reply.delay, http.receive):
            self.left_early.append(request)
            return Response(status_code=499)
        headers |= reply.headers
        if reply.status != _OK:
            return _error(reply, headers)
        return self._render(request, reply, headers)

    def _read(self, endpoint: Endpoint, http: Request, raw: bytes) -> ModelRequest:
        body = json.loads(raw)
        if not isinstance(body, dict):
            raise ValueError("it is not an object")  # noqa: TRY004 - a value the client sent
        history = self._conversations.get(str(body.get("previous_response_id")), [])
        return ModelRequest(
            endpoint=endpoint, body=body, headers=dict(http.headers), history=tuple(history)
        )

    def _complaint(self, request: ModelRequest) -> str | None:
        if not request.model:
            return "you must provide a model parameter"
        wrong: str | None = _FORMATS[request.endpoint].complaint(request)
        return wrong

    def _render(self, request: ModelRequest, reply: Reply, headers: Headers) -> ASGIApp:
        if request.endpoint == "embeddings":
            return JSONResponse(embeddings.body(request, reply), headers=headers)
        wire = _FORMATS[request.endpoint]
        if request.stream:
            chunks = self._kept(wire.chunks(request, reply, self._ids), request)
            return _Stream(self, request, reply, chunks, headers)
        body = wire.body(request, reply, self._ids)
        self._keep(request, body)
        if reply.abort_after is not None:
            return _Torn(body, headers)
        return JSONResponse(body, headers=headers)

    def _kept(self, chunks: Iterator[bytes], request: ModelRequest) -> Iterator[bytes]:
        """Pass a stream's chunks through; keep the response that a final one carries."""
        for chunk in chunks:
            if chunk.startswith((b"event: response.completed", b"event: response.incomplete")):
                self._keep(request, json.loads(chunk.partition(b"data: ")[2])["response"])
            yield chunk

    def _keep(self, request: ModelRequest, body: Json) -> None:
        """Remember a response, for requests that go on from it."""
        if request.endpoint == "responses":
            self._conversations[body["id"]] = [*request.items, *body["output"]]


class _Stream:
    """Server-sent events with the delays, the early end and the endlessness of a reply."""

    def __init__(
        self,
        app: ModelApp,
        request: ModelRequest,
        reply: Reply,
        chunks: Iterator[bytes],
        headers: Headers,
    ) -> None:
        self._app, self._request, self._reply, self._chunks = app, request, reply, chunks
        self._headers = headers

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await _begin(send, self._headers | {"content-type": "text/event-stream; charset=utf-8"})
        await _send(send, b"")
        if await self._send_chunks(receive, send):
            await _send(send, b"", more=False)

    async def _send_chunks(self, receive: Receive, send: Send) -> bool:
        """Send the chunks; say whether the stream came to a proper end."""
        wait = self._reply.first_chunk_delay
        for count, chunk in enumerate(self._chunks):
            if count == self._reply.breaks_after:
                return await self._break_off(count, send)
            if not await self._app.pause(wait, receive):
                self._app.left_early.append(self._request)
                return False
            await _send(send, chunk)
            wait = self._reply.chunk_delay
        return True

    async def _break_off(self, count: int, send: Send) -> bool:
        """Send the scripted error event and end well, or just hang up."""
        if self._reply.stream_error is None:
            return False
        error = _FORMATS[self._request.endpoint].stream_error(self._reply.stream_error, count)
        await _send(send, error)
        return True


class _Torn:
    """A JSON body that breaks off in the middle, though its length was promised."""

    def __init__(self, body: Json, headers: Headers) -> None:
        self._body = json.dumps(body).encode()
        length = {"content-type": "application/json", "content-length": str(len(self._body))}
        self._headers = headers | length

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _begin(send, self._headers)
        await _send(send, self._body[: len(self._body) // 2])


async def _begin(send: Send, headers: Headers) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": _OK, "headers": raw})


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def _error(reply: Reply, headers: Headers) -> Response:
    if reply.retry_after is not None:
        headers["retry-after-ms"] = f"{reply.retry_after * 1000:.0f}"
        headers["retry-after"] = f"{math.ceil(reply.retry_after)}"
    return JSONResponse(reply.error_body, status_code=reply.status, headers=headers)


async def _unknown(request: Request, _exception: Exception) -> Response:
    return _error(Reply.error(404, f"Invalid URL ({request.method} {request.url.path})"), {})
