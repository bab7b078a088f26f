"""Events across a real NATS server: nothing lost, nothing twice, in order, whatever breaks."""

import asyncio
import itertools
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import pytest

from llmspell_exporters.nats import RECEIVED, Link, NatsInbox, NatsOutbox
from llmspell_otel.events import EventBus, UniversalEvent, make
from llmspell_otel.events.journal import Journal, Retention
from tests.events.kit import eventually


class Server:
    """A NATS server with JetStream on a port and a folder of its own; it can be stopped."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        program = shutil.which("nats-server")
        assert program, "install nats-server: `make test` does"
        words = [program, "-js", "-sd", str(self._folder), "-a", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        assert eventually(self._answers)

    def stop(self) -> None:
        """Stop at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server."""
    server = Server(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


class Side:
    """One machine: a bus with a journal."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.bus = EventBus()
        self.journal = Journal(folder, interval=0.001, **options)
        self.journal.attach(self.bus)
        self.got: list[UniversalEvent] = []
        self.bus.subscribe("n.**", self.got.append)

    def publish(self, numbers: Any, event_types: tuple[str, ...] = ("n.x",)) -> None:
        """Publish one event for each of *numbers*, of the *event_types* in turn."""
        for number, event_type in zip(numbers, itertools.cycle(event_types), strict=False):
            self.bus.publish(make(event_type, number))


def numbers(side: Side) -> list[Any]:
    """The data of what came."""
    return [event.data for event in side.got]


def link(server: Server, origin: str) -> Link:
    """The link of the machine *origin*."""
    return Link((server.url,), origin=origin, timeout=2.0)


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """Two machines."""
    made = Side(tmp_path / "here"), Side(tmp_path / "there")
    yield made
    for side in made:
        side.journal.close()


def test_events_arrive_in_order(server: Server, sides: tuple[Side, Side]) -> None:
    """All of them, the same but for the mark of where they came from."""
    here, there = sides
    outbox = NatsOutbox(here.journal, link(server, "here"), patterns=("n.*",))
    inbox = NatsInbox("there", link(server, "there"), bus=there.bus)
    for side in (outbox, inbox):
        side.start()
    here.publish(range(1_000))
    here.bus.publish(make("private", "secret"))
    assert eventually(lambda: len(there.got) == 1_000, 30)
    assert numbers(there) == list(range(1_000))
    assert [event.id for event in there.got] == [event.id for event in here.got]
    assert {event.extra[RECEIVED] for event in there.got if event.extra} == {"here"}
    assert inbox.stats.received == 1_000
    assert eventually(lambda: outbox.stats.sent == 1_000)
    for side in (outbox, inbox):
        side.close()


def test_a_broker_that_comes_and_goes_loses_nothing(
    server: Server, sides: tuple[Side, Side]
) -> None:
    """Killed twice while events of three subjects flow: each arrives once, and in order."""
    subjects = ("n.x", "n.y", "n:z.deep")
    here, there = sides
    outbox = NatsOutbox(here.journal, link(server, "here"))
    inbox = NatsInbox("there", link(server, "there"), bus=there.bus, ack_wait=1.0)
    for side in (outbox, inbox):
        side.start()
    for turn in range(3):
        here.publish(range(turn * 500, turn * 500 + 250), subjects)
        time.sleep(0.1)
        if turn:
            server.stop()
        here.publish(range(turn * 500 + 250, turn * 500 + 500), subjects)
        if turn:
            time.sleep(0.2)
            server.start()
    assert eventually(lambda: len(there.got) >= 1_500, 60)
    time.sleep(0.5)
    assert [event.id for event in there.got] == [event.id for event in here.got]
    assert numbers(there) == list(range(1_500))
    assert {event.event_type for event in there.got} == set(subjects)
    assert outbox.stats.lost == 0
    assert outbox.stats.reconnects >= 1
    for side in (outbox, inbox):
        side.close()


SENDER = """
import sys
from llmspell_exporters.nats import Link, NatsOutbox
from llmspell_otel.events import Event, default_bus
from llmspell_otel.events.journal import Journal

url, folder, first, last = sys.argv[1:]
journal = Journal(folder, interval=0.001)
journal.attach(default_bus())
outbox = NatsOutbox(journal, Link((url,), origin="elsewhere", timeout=2.0))
outbox.start()
for number in range(int(first), int(last)):
    Event.publish("n.x", number)
assert journal.flush(20)
print("kept", flush=True)
sys.stdin.read()
outbox.close()
"""


@contextmanager
def sender(server: Server, folder: Path, first: int, last: int) -> Generator[subprocess.Popen[str]]:
    """A process that publishes those numbers, says so when they are kept, and goes on sending."""
    words = [sys.executable, "-c", SENDER, server.url, str(folder), str(first), str(last)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "kept\n"
        yield process
        process.kill()


def test_a_sender_that_is_killed_loses_nothing(server: Server, tmp_path: Path) -> None:
    """Another process, killed with events unsent; the broker, too; its successor sends the rest."""
    here = Side(tmp_path / "here")
    inbox = NatsInbox("here", link(server, "here"), bus=here.bus, ack_wait=1.0)
    inbox.start()
    with sender(server, tmp_path / "elsewhere", 0, 500):
        assert eventually(lambda: len(here.got) > 0, 30)
    server.stop()
    with sender(server, tmp_path / "elsewhere", 500, 1_000):
        pass  # killed before it could send anything
    server.start()
    with sender(server, tmp_path / "elsewhere", 1_000, 1_500):
        assert eventually(lambda: len(here.got) >= 1_500, 60)
    assert numbers(here) == list(range(1_500))
    inbox.close()
    here.journal.close()


def test_an_outbox_goes_on_where_it_was(server: Server, sides: tuple[Side, Side]) -> None:
    """After a restart only what is new is sent; a server that is away is waited for."""
    here, there = sides
    first = NatsOutbox(here.journal, link(server, "here"))
    first.start()
    here.publish(range(100))
    position = here.journal.path / "outbox-LLMSPELL.position"
    assert eventually(lambda: position.exists() and position.read_text() == "100", 30)
    first.close()
    server.stop()
    second = NatsOutbox(here.journal, link(server, "here"))
    second.start()
    here.publish(range(100, 150))
    time.sleep(0.3)
    assert (second.stats.sent, second.stats.connected) == (0, False)
    server.start()
    assert eventually(lambda: second.stats.sent == 50, 30)
    inbox = NatsInbox("there", link(server, "there"), bus=there.bus)
    inbox.start()
    assert eventually(lambda: len(there.got) == 150, 30)
    assert numbers(there) == list(range(150))
    for side in (second, inbox):
        side.close()


def test_redelivered_events_are_published_once(
    server: Server, sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half of the acknowledgements lost, the server sends again; the inbox knows them."""
    here, there = sides
    from nats.aio.msg import Msg

    acknowledge, calls = Msg.ack, [0]

    async def forgetful(message: Msg) -> None:
        calls[0] += 1
        if calls[0] > 40 or calls[0] % 2:
            await acknowledge(message)

    monkeypatch.setattr(Msg, "ack", forgetful)
    outbox = NatsOutbox(here.journal, link(server, "here"))
    inbox = NatsInbox("there", link(server, "there"), bus=there.bus, ack_wait=0.3)
    for side in (outbox, inbox):
        side.start()
    here.publish(range(60))
    assert eventually(lambda: inbox.stats.duplicates >= 20, 30)
    assert numbers(there) == list(range(60))
    for side in (outbox, inbox):
        side.close()


def test_received_events_are_not_sent_back(server: Server, sides: tuple[Side, Side]) -> None:
    """Two machines that both send and receive do not echo."""
    bridges = [
        bridge
        for side, name in zip(sides, ("here", "there"), strict=True)
        for bridge in (
            NatsOutbox(side.journal, link(server, name)),
            NatsInbox(name, link(server, name), bus=side.bus),
        )
    ]
    for bridge in bridges:
        bridge.start()
    here, there = sides
    here.publish(["from here"])
    there.publish(["from there"])
    both = ["from here", "from there"]
    assert eventually(lambda: sorted(numbers(here)) == sorted(numbers(there)) == both, 30)
    time.sleep(0.6)
    assert sorted(numbers(here)) == sorted(numbers(there)) == both
    assert bridges[0].stats.sent == bridges[2].stats.sent == 1
    for bridge in bridges:
        bridge.close()


def test_what_the_journal_forgot_is_counted(server: Server, tmp_path: Path) -> None:
    """The spool is bounded by the journal's retention; what it took is lost, and counted."""
    here = Side(tmp_path / "here", retention=Retention(max_age=None, max_events=20))
    first = NatsOutbox(here.journal, link(server, "here"))
    first.start()
    here.publish(range(10))
    assert eventually(lambda: first.stats.sent == 10, 30)
    assert eventually((here.journal.path / "outbox-LLMSPELL.position").exists)
    first.close()
    here.publish(range(10, 110))
    here.journal.prune()
    second = NatsOutbox(here.journal, link(server, "here"))
    second.start()
    assert eventually(lambda: second.stats.sent == 20, 30)
    assert second.stats.lost == 80
    second.close()
    here.journal.close()


def test_foreign_messages_are_refused(server: Server, sides: tuple[Side, Side]) -> None:
    """What is no event is counted, given up, and does not stop what follows."""
    here, there = sides
    inbox = NatsInbox("there", link(server, "there"), bus=there.bus)
    inbox.start()
    assert eventually(lambda: inbox.stats.connected, 30)

    async def send() -> None:
        client = await nats.connect(server.url)
        await client.jetstream().publish("llmspell.events.n.x", b"not an event")
        await client.close()

    asyncio.run(send())
    outbox = NatsOutbox(here.journal, link(server, "here"))
    outbox.start()
    here.publish(["fine"])
    assert eventually(lambda: numbers(there) == ["fine"], 30)
    assert inbox.stats.refused == 1
    for side in (outbox, inbox):
        side.close()


@pytest.mark.parametrize(
    ("event_type", "subject"),
    [
        ("tool:execution_complete", "llmspell.events.tool.execution_complete"),
        ("a.*.>", "llmspell.events.a._._"),
        ("a..b c", "llmspell.events.a._.b_c"),
        ("\x00\n", "llmspell.events.__"),
        ("", "llmspell.events._"),
    ],
)
def test_subjects_are_harmless(event_type: str, subject: str) -> None:
    """No event's name becomes a wildcard or breaks the protocol."""
    assert Link().subject(event_type) == subject


def test_closing_without_a_server_is_quick(sides: tuple[Side, Side]) -> None:
    """A bridge to nowhere costs the application nothing, also at its end."""
    outbox = NatsOutbox(sides[0].journal, Link(("nats://127.0.0.1:1",)))
    outbox.start()
    sides[0].publish(range(10))
    began = time.monotonic()
    outbox.close()
    assert time.monotonic() - began < 5
    assert outbox.stats.sent == 0
