"""Events across machines, over NATS JetStream.

`NatsOutbox` sends what a journal keeps: the journal is the spool, and the outbox remembers how far
it has come. `NatsInbox` publishes what others sent on the local bus. Delivery is at least once;
duplicates are removed by the event's id, by the server (`Nats-Msg-Id`) and by the inbox.
"""

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llmspell_otel.errors import EventError, LlmspellError
from llmspell_otel.events import EventBus, Pattern, UniversalEvent, default_bus
from llmspell_otel.events.codec import decode, encode
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.pattern import split
from llmspell_otel.events.store.query import Query

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

RECEIVED = "received_from"
"""The field in `event.extra` that marks an event of another machine; it is not sent on."""

_MESSAGE_ID = "Nats-Msg-Id"
_ORIGIN = "Llmspell-Origin"
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds between attempts to connect
_POLL = 0.2  # seconds between looks at a journal that had nothing new
_MAX_SEEN = 100_000
_MAX_TOKEN = 200

_logger = logging.getLogger("llmspell_exporters")


class MissingNatsError(LlmspellError, ImportError):
    """The NATS bridge was asked for, but its client is not installed."""

    def __init__(self) -> None:
        super().__init__("the NATS bridge needs its client: pip install 'llmspell-otel[nats]'")


@dataclass(frozen=True, slots=True)
class Link:
    """Where the events travel.

    Attributes:
        servers: URLs of the NATS servers.
        stream: The JetStream stream; it is made if it is not there.
        prefix: The first part of every subject; the event's type follows.
        origin: The name of this machine or process among the others.
        batch: Messages under way at once.
        timeout: Seconds to wait for acknowledgements.
        duplicate_window: Seconds in which the server removes duplicates, for a new stream.
    """

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    stream: str = "LLMSPELL"
    prefix: str = "llmspell.events"
    origin: str = "llmspell"
    batch: int = 256
    timeout: float = 5.0
    duplicate_window: float = 120.0

    def subject(self, event_type: str) -> str:
        """The subject of events of *event_type*: its segments, made harmless."""
        tokens = ["".join(map(_harmless, token))[:_MAX_TOKEN] or "_" for token in split(event_type)]
        return ".".join((self.prefix, *tokens))


@dataclass(slots=True)
class BridgeStats:
    """The books of one side of the bridge.

    Attributes:
        connected: Whether a server is connected at the moment.
        sent: Outbox: events that the server has acknowledged.
        lost: Outbox: events that the journal's retention took before they were sent.
        refused: Events that the server or the decoder does not take; they are skipped.
        received: Inbox: events published on the bus.
        duplicates: Events that had been there before.
        reconnects: How often a connection was made anew.
    """

    connected: bool = False
    sent: int = 0
    lost: int = 0
    refused: int = 0
    received: int = 0
    duplicates: int = 0
    reconnects: int = -1


class _Side:
    """One side of the bridge: a thread with a loop that connects, works, and connects again.

    The client's own reconnection is off: it would send what came later before what was lost.
    """

    def __init__(self, link: Link) -> None:
        if find_spec("nats") is None:  # asked for here, so that the error comes at the start
            raise MissingNatsError
        self.link = link
        self.stats = BridgeStats()
        self._closing = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        name = f"llmspell-nats-{type(self).__name__}"
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Connect and work, until `close`."""
        self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """Stop within *timeout* seconds; what was not sent waits for the next start."""
        self._closing = True
        if self._running is not None:
            loop, task = self._running
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(task.cancel)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _main(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._stay_connected())

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        self._running = loop, loop.create_task(self._attempts())
        await self._running[1]

    async def _attempts(self) -> None:
        attempt = 0
        while not self._closing:
            before = self.stats.reconnects
            try:
                await self._connected()
            except Exception as error:
                if self.stats.connected or attempt == 0:
                    _logger.warning("NATS at %s: %r; trying again", self.link.servers, error)
            self.stats.connected = False
            attempt = 0 if self.stats.reconnects > before else attempt + 1
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])

    async def _connected(self) -> None:
        import nats

        client = await nats.connect(
            list(self.link.servers),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=2,
            error_cb=_quiet,
            name=self.link.origin,
        )
        try:
            stream = client.jetstream(timeout=self.link.timeout)
            await self._prepare(stream)
            self.stats.connected = True
            self.stats.reconnects += 1
            await self._work(client, stream)
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), 1)

    async def _prepare(self, stream: "JetStreamContext") -> None:
        from nats.js.errors import NotFoundError

        try:
            await stream.stream_info(self.link.stream)
        except NotFoundError:
            await stream.add_stream(
                name=self.link.stream,
                subjects=[f"{self.link.prefix}.>"],
                duplicate_window=self.link.duplicate_window,
            )

    async def _work(self, client: "Client", stream: "JetStreamContext") -> None:
        raise NotImplementedError


class NatsOutbox(_Side):
    """Sends the events of *journal* that match *patterns*, in order, each at least once.

    How far it has come stands in a file in the journal's folder. One outbox per journal is enough.

    Raises:
        MissingNatsError: the client is not installed.
        PatternError: a pattern is not in the grammar.
    """

    def __init__(
        self, journal: Journal, link: Link | None = None, *, patterns: tuple[str, ...] = ()
    ) -> None:
        super().__init__(link or Link())
        self._journal = journal
        self._patterns = [Pattern(text) for text in patterns]
        self._file = journal.path / f"outbox-{self.link.stream}.position"
        self._position = _position(self._file)

    async def _work(self, client: "Client", stream: "JetStreamContext") -> None:
        while client.is_connected:
            batch = await asyncio.to_thread(self._next)
            if not batch:
                await asyncio.sleep(_POLL)
                continue
            await self._send(stream, [event for _, event in batch if self._wanted(event)])
            await asyncio.to_thread(self._advance, batch[-1][0])

    def _next(self) -> list[tuple[int, UniversalEvent]]:
        query = Query(after=self._position)
        batch = list(islice(self._journal.positions(query), self.link.batch))
        if batch and self._position and batch[0][0] > self._position + 1:
            self.stats.lost += batch[0][0] - self._position - 1
        return batch

    def _wanted(self, event: UniversalEvent) -> bool:
        if event.extra is not None and RECEIVED in event.extra:
            return False
        kind = event.event_type
        return not self._patterns or any(each.matches(kind) for each in self._patterns)

    async def _send(self, stream: "JetStreamContext", events: list[UniversalEvent]) -> None:
        """Publish *events* in order and wait for all; raise if one is neither taken nor refused."""
        waiting = [
            await stream.publish_async(
                self.link.subject(event.event_type),
                encode(event),
                wait_stall=self.link.timeout,
                headers={_MESSAGE_ID: event.id, _ORIGIN: self.link.origin},
            )
            for event in events
        ]
        async with asyncio.timeout(self.link.timeout):
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        for answer in answers:
            self._count(answer)

    def _count(self, answer: Any) -> None:
        from nats.js.errors import APIError, ServiceUnavailableError

        if isinstance(answer, APIError) and not isinstance(answer, ServiceUnavailableError):
            self.stats.refused += 1
        elif isinstance(answer, BaseException):
            raise answer
        else:
            self.stats.sent += 1
            self.stats.duplicates += bool(answer.duplicate)

    def _advance(self, position: int) -> None:
        self._position = position
        temporary = self._file.with_suffix(".new")
        temporary.write_text(str(position))
        temporary.replace(self._file)


class NatsInbox(_Side):
    """Publishes on *bus* what others have sent, if its type matches *patterns*.

    *name* is the durable consumer: it remembers, on the server, what this inbox has had.

    Raises:
        MissingNatsError: the client is not installed.
        PatternError: a pattern is not in the grammar.
    """

    def __init__(
        self,
        name: str,
        link: Link | None = None,
        *,
        bus: EventBus | None = None,
        patterns: tuple[str, ...] = (),
        ack_wait: float = 30.0,
    ) -> None:
        super().__init__(link or Link())
        self._name = name
        self._bus = bus or default_bus()
        self._patterns = [Pattern(text) for text in patterns]
        self._ack_wait = ack_wait
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def _work(self, client: "Client", stream: "JetStreamContext") -> None:
        from nats.js.api import ConsumerConfig

        config = ConsumerConfig(ack_wait=self._ack_wait)
        consumer = await stream.pull_subscribe(
            f"{self.link.prefix}.>", durable=self._name, stream=self.link.stream, config=config
        )
        while client.is_connected:
            try:
                messages = await consumer.fetch(self.link.batch, timeout=_POLL)
            except TimeoutError:
                continue
            for message in messages:
                await self._take(message)

    async def _take(self, message: "Msg") -> None:
        try:
            event = decode(message.data)
        except EventError:
            self.stats.refused += 1
            await message.term()
            return
        origin, name = (message.headers or {}).get(_ORIGIN, ""), event.id
        if name in self._seen:
            self.stats.duplicates += 1
        elif origin != self.link.origin and self._wanted(event):
            marked = msgspec.structs.replace(event, extra={**(event.extra or {}), RECEIVED: origin})
            self._bus.publish(marked)
            self.stats.received += 1
        self._remember(name)
        await message.ack()

    def _wanted(self, event: UniversalEvent) -> bool:
        kind = event.event_type
        return not self._patterns or any(each.matches(kind) for each in self._patterns)

    def _remember(self, event_id: str) -> None:
        self._seen[event_id] = None
        self._seen.move_to_end(event_id)
        while len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)


def _position(file: Path) -> int | None:
    """How far an outbox had come; None at the very beginning."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _harmless(character: str) -> str:
    return character if character.isalnum() or character in "-_=@/" else "_"


async def _quiet(error: Exception) -> None:
    """The loop around a connection reports what ends it."""
    _logger.debug("NATS: %r", error)
