"""Scripts for the model server: replies, and rules that say which reply a request gets."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any, Self, TypeAlias, TypedDict, Unpack

from llmspell_otel.testing.request import Endpoint, ModelRequest

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens that a reply says it cost: `cached` within `input`, `reasoning` in `output`."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class ScriptedToolCall:
    """A call that the model asks for; `arguments` as text goes out as it is, well-formed or not."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)

    @property
    def json(self) -> str:
        """The arguments as they go over the wire."""
        given = self.arguments
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


class ReplyOptions(TypedDict, total=False):
    """What may be set on any reply; `Reply` says what each means."""

    usage: Usage
    finish: str
    model: str
    code: str
    retry_after: float
    delay: float
    first_chunk_delay: float
    chunk_delay: float
    abort_after: int
    stream_error: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted reply, made by `text`, `tools`, `json`, `refuse`, `error`, `embed` or `endless`.

    Attributes:
        content: what the model says.
        tool_calls: what it calls, all in this one turn.
        refusal: what it says when it refuses.
        usage: what it cost; None counts a token for every four characters.
        finish: `stop`, `length`, `tool_calls` or `content_filter`; None finds the fitting one.
        model: the served model, if it is not the one asked for.
        status: the HTTP status; anything but 200 answers with an error body.
        code: the error code in that body.
        retry_after: seconds, sent as `retry-after-ms` and `retry-after`.
        vectors: the embeddings, one for each input.
        delay: seconds before anything is sent.
        first_chunk_delay: seconds between a stream's headers and its first chunk.
        chunk_delay: seconds between chunks.
        abort_after: chunks after which a stream ends without its end; 0 sends headers alone.
            A reply that is not streamed is cut off in the middle of its body.
        stream_error: a message that the wire format's error event brings at that place, or after
            the first chunk; the stream then ends in order.
        repeat: whether the content is streamed over and over until the client leaves.
        headers: further HTTP headers of the answer.
    """

    content: str = ""
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    refusal: str | None = None
    usage: Usage | None = None
    finish: str | None = None
    model: str | None = None
    status: int = 200
    code: str | None = None
    retry_after: float | None = None
    vectors: tuple[tuple[float, ...], ...] | None = None
    delay: float = 0.0
    first_chunk_delay: float = 0.0
    chunk_delay: float = 0.0
    abort_after: int | None = None
    stream_error: str | None = None
    repeat: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def text(cls, content: str, **options: Unpack[ReplyOptions]) -> Self:
        """Say *content*."""
        return cls(content=content, **options)

    @classmethod
    def tools(
        cls, *calls: tuple[str, Mapping[str, Any] | str], **options: Unpack[ReplyOptions]
    ) -> Self:
        """Call tools: `Reply.tools(("look_up", {"id": 7}), ("search", {"query": "x"}))`."""
        scripted = tuple(ScriptedToolCall(name, arguments) for name, arguments in calls)
        return cls(tool_calls=scripted, **options)

    @classmethod
    def json(cls, value: Any, **options: Unpack[ReplyOptions]) -> Self:
        """Say *value* as JSON, for structured outputs."""
        return cls(content=json.dumps(value, ensure_ascii=False), **options)

    @classmethod
    def refuse(cls, refusal: str, **options: Unpack[ReplyOptions]) -> Self:
        """Refuse, in the field that the API has for it."""
        return cls(refusal=refusal, **options)

    @classmethod
    def error(
        cls, status: int, message: str = "scripted error", **options: Unpack[ReplyOptions]
    ) -> Self:
        """Answer with an HTTP error and OpenAI's error body."""
        return cls(status=status, content=message, **options)

    @classmethod
    def embed(cls, *vectors: Iterable[float], **options: Unpack[ReplyOptions]) -> Self:
        """Answer an embeddings request with *vectors*, one for each input."""
        return cls(vectors=tuple(tuple(vector) for vector in vectors), **options)

    @classmethod
    def endless(cls, content: str = "and on ", **options: Unpack[ReplyOptions]) -> Self:
        """Stream *content* again and again until the client leaves, every 10 ms or as told."""
        options.setdefault("chunk_delay", 0.01)
        return cls(content=content, repeat=True, **options)

    @property
    def finish_reason(self) -> str:
        """Why the model stops, in the words of chat completions."""
        return self.finish or ("tool_calls" if self.tool_calls else "stop")

    @property
    def breaks_after(self) -> int | None:
        """How many chunks of a stream are sent before it breaks off, if it does."""
        return 1 if self.abort_after is None and self.stream_error else self.abort_after

    @property
    def error_body(self) -> dict[str, Any]:
        """The body that goes with an error status."""
        kind = _ERROR_TYPES.get(self.status, "server_error")
        detail = {"message": self.content, "type": kind, "param": None, "code": self.code}
        return {"error": detail}

    def cost(self, request: ModelRequest) -> Usage:
        """The usage to report for this reply to *request*."""
        if self.usage is not None:
            return self.usage
        said = self.content + (self.refusal or "")
        said += "".join(call.name + call.json for call in self.tool_calls)
        asked = request.instructions + json.dumps(request.items, ensure_ascii=False)
        return Usage(input=_tokens(asked), output=_tokens(said))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Gives *reply* to the requests that fit every condition set here.

    Attributes:
        reply: a reply, or several to give one after the other (the last one repeats).
        model: a glob for the model's name.
        user: text that the last message of the user contains, in any case.
        offers: a tool that the request offers.
        result_of: a tool whose result answers the model's last turn.
        has_result: whether the request brings any tool result.
        endpoint: `chat`, `responses` or `embeddings`.
        times: how often the rule holds; None for ever.
    """

    reply: Reply | Sequence[Reply]
    model: str | None = None
    user: str | None = None
    offers: str | None = None
    result_of: str | None = None
    has_result: bool | None = None
    endpoint: Endpoint | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if not self.reply:
            raise ValueError("a rule needs at least one reply")

    def fits(self, request: ModelRequest) -> bool:
        """Whether *request* meets every condition."""
        results = request.tool_results
        return all(
            (
                self.endpoint in (None, request.endpoint),
                self.model is None or fnmatchcase(request.model, self.model),
                self.user is None or self.user.casefold() in request.user.casefold(),
                self.offers is None or self.offers in request.tools,
                self.result_of is None or any(each.name == self.result_of for each in results),
                self.has_result is None or self.has_result == bool(results),
            )
        )

    def nth(self, index: int) -> Reply:
        """The reply for the request that is number *index* to fit, counted from 0."""
        if isinstance(self.reply, Reply):
            return self.reply
        return self.reply[min(index, len(self.reply) - 1)]


Script: TypeAlias = Iterable[Reply | Rule] | Callable[[ModelRequest], Reply]
"""Replies in order and rules in any place (rules are asked first), or a function."""


class Prompter:
    """Finds the reply to each request, in the order of a script. Safe to call from any thread."""

    def __init__(self, script: Script) -> None:
        self._lock = Lock()
        self._function = script if callable(script) else None
        steps = [] if callable(script) else [_checked(step) for step in script]
        self._rules = [step for step in steps if isinstance(step, Rule)]
        self._queue = [step for step in steps if isinstance(step, Reply)]
        self._used = [0] * len(self._rules)

    @property
    def unused(self) -> tuple[Reply, ...]:
        """The replies that no request has had yet."""
        with self._lock:
            return tuple(self._queue)

    def reply(self, request: ModelRequest) -> Reply:
        """The reply to *request*; a clear 400, which no SDK retries, when the script has none.

        The same when the script is a function and fails.
        """
        if self._function is not None:
            return _asked(self._function, request)
        with self._lock:
            return self._by_rule(request) or self._in_order(request) or _nothing(request)

    def _by_rule(self, request: ModelRequest) -> Reply | None:
        for index, rule in enumerate(self._rules):
            used = self._used[index]
            if (rule.times is None or used < rule.times) and rule.fits(request):
                self._used[index] += 1
                return rule.nth(used)
        return None

    def _in_order(self, request: ModelRequest) -> Reply | None:
        # An embeddings request does not use up what the model was going to say.
        if request.endpoint == "embeddings" and not (self._queue and _embeds(self._queue[0])):
            return Reply()
        return self._queue.pop(0) if self._queue else None


def _checked(step: Any) -> Reply | Rule:
    if isinstance(step, Reply | Rule):
        return step
    raise TypeError(
        f"a script is made of Reply and Rule, or is a function; this one has a "
        f"{type(step).__name__}: {step!r:.80}"
    )


def _asked(function: Callable[[ModelRequest], Reply], request: ModelRequest) -> Reply:
    try:
        answer: Any = function(request)
    except Exception as error:
        return Reply.error(
            400, f"the script failed: {type(error).__name__}: {error}", code="script_failed"
        )
    if isinstance(answer, Reply):
        return answer
    message = f"the script gave a {type(answer).__name__} instead of a Reply"
    return Reply.error(400, message, code="script_failed")


def _embeds(reply: Reply) -> bool:
    return reply.vectors is not None or reply.status != 200  # noqa: PLR2004 - HTTP's own number


def _nothing(request: ModelRequest) -> Reply:
    return Reply.error(
        400,
        f"the script has no reply left for this request: {request.endpoint}, "
        f"model {request.model!r}, last user message {request.user!r}, "
        f"tool results {[result.name for result in request.tool_results]}",
        code="script_exhausted",
    )


def _tokens(text: str) -> int:
    return max(1, len(text) // 4)
