"""Caches and limits that processes share through a real Redis, and Redis at its worst."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from llmspell_otel import Hook, OperationCancelled, tool
from llmspell_otel.builtin.bucket import Limit
from llmspell_otel.builtin.shared import Redis, SharedBuckets
from llmspell_otel.errors import SettingsError
from llmspell_otel.testing import Reply
from tests.builtin.redis_server import RedisServer
from tests.builtin.support import Clock, ask, said, streamed

pytestmark = pytest.mark.usefixtures("instrumented")
Serve = Callable[..., Any]
Log = pytest.LogCaptureFixture


@tool
def look_up(query: Any) -> Any:
    """A tool whose answer tells who made it."""
    calls.append(query)
    return {"found": query, "call": len(calls)}


calls: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    """None was made."""
    calls.clear()


def again(name: str, **settings: Any) -> None:
    """Begin anew, as another process would: nothing in memory."""
    Hook.disable_builtin(name)
    Hook.enable_builtin(name, settings)


# -- the cache


def test_outputs_are_shared(server: RedisServer, client: Any, serve: Serve) -> None:
    """They come back as the SDK's own objects, also where they were streamed."""
    settings = {"redis": server.url}
    served = serve(Reply.text("hello there"), Reply.text("streamed, too"))
    again("caching", **settings)
    first = ask(served.client)
    assert streamed(ask(served.client, stream=True)) == "streamed, too"
    again("caching", **settings)
    second = ask(served.client)
    assert type(second) is type(first)
    assert said(second) == "hello there"
    assert streamed(ask(served.client, stream=True)) == "streamed, too"
    assert len(served.requests) == 2


def test_outputs_are_shared_by_asynchronous_calls(
    server: RedisServer, client: Any, serve: Serve
) -> None:
    """Redis is asked in a thread; the event loop goes on."""
    served = serve(Reply.text("hello"))
    for _ in range(2):
        again("caching", redis=server.url)
        assert said(served.run(ask)) == "hello"
    assert len(served.requests) == 1


def test_shared_outputs_have_an_end(server: RedisServer, client: Any) -> None:
    """Redis itself forgets them; what was fetched ends when the original does."""
    again("caching", redis=server.url, include="tool:*", ttl=0.5)
    look_up("a")
    (key,) = client.keys("llmspell:cache:*")
    assert 0 < client.pttl(key) <= 500
    again("caching", redis=server.url, include="tool:*", ttl=100)
    look_up("a")
    assert len(calls) == 1
    time.sleep(0.6)
    look_up("a")
    assert len(calls) == 2


def test_what_another_wrote_is_never_executed(server: RedisServer, client: Any) -> None:
    """A pickle in the place of an output is a miss."""
    again("caching", redis=server.url, include="tool:*")
    look_up("a")
    (key,) = client.keys("llmspell:cache:*")
    client.set(key, b"cos\nsystem\n(S'false'\ntR.")
    again("caching", redis=server.url, include="tool:*")
    assert look_up("a")["call"] == 2


def test_what_would_change_on_the_way_stays_here(server: RedisServer, client: Any) -> None:
    """Such an output is kept in memory alone."""
    again("caching", redis=server.url, include="tool:*")
    look_up((1, 2))
    assert look_up((1, 2))["call"] == 1
    assert not client.keys("*")


# -- the limit

WORKER = """
import json, sys, time
from llmspell_otel import Hook, OperationCancelled, tool

@tool
def work(): return 1

Hook.enable_builtin("rate_limit", json.loads(sys.argv[1]))
through = 0
for _ in range(int(sys.argv[2])):
    try:
        through += work()
    except OperationCancelled:
        pass
print(through)
"""


def test_processes_share_one_bucket(server: RedisServer, client: Any) -> None:
    """Three of them get no more together than one would."""
    settings = {"redis": server.url, "rate": 0.001, "burst": 50, "redis_timeout": 5}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(settings), "40"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    through = [int(worker.communicate(timeout=100)[0]) for worker in workers]
    assert sum(through) == 50


def test_asynchronous_calls_ask_without_blocking(server: RedisServer, client: Any) -> None:
    """And get exactly their share."""
    again("rate_limit", redis=server.url, rate=0.001, burst=10, redis_timeout=5)

    @tool
    async def work() -> int:
        return 1

    async def herd() -> list[Any]:
        return await asyncio.gather(*[work() for _ in range(30)], return_exceptions=True)

    answers = asyncio.run(herd())
    assert answers.count(1) == 10
    assert sum(isinstance(answer, OperationCancelled) for answer in answers) == 20


def test_the_shared_bucket_refills_by_fractions(server: RedisServer, client: Any) -> None:
    """By the server's own clock."""
    buckets = SharedBuckets(Redis("test", server.url, 5), "t:")
    limit = Limit(20.0, 2.0)
    assert [buckets.take("k", 1, limit).granted for _ in range(2)] == [True, True]
    refused = buckets.take("k", 1, limit)
    if not refused.granted:
        assert 0 < refused.wait <= 0.05
    time.sleep(0.06)
    assert buckets.take("k", 1, limit).granted


def test_a_shared_debt_is_paid_off_by_time(server: RedisServer, client: Any) -> None:
    """As in memory; and idle buckets do not stay."""
    buckets = SharedBuckets(Redis("test", server.url, 5), "t:")
    limit = Limit(10.0, 100.0)
    assert buckets.charge("k", 105, limit).tokens == pytest.approx(-5, abs=0.5)
    assert not buckets.take("k", 1, limit).granted
    later = buckets.take("k", 1, limit, 5.0)
    assert later.granted
    assert 0.3 < later.wait <= 0.6
    assert 0 < client.pttl("t:k") <= 12_000


# -- faults


@pytest.mark.parametrize("name", ["caching", "rate_limit"])
def test_without_redis_calls_go_on(tmp_path: Path, caplog: Log, name: str) -> None:
    """One warning, however many calls; each takes no time; and one line when it is back."""
    server = RedisServer(tmp_path)
    again(name, redis=server.url, include="tool:*")
    with caplog.at_level(logging.INFO, "llmspell_otel"):
        began = time.monotonic()
        for number in range(50):
            look_up(number)
        assert time.monotonic() - began < 2
    assert len(calls) == 50
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"builtin.{name}: Redis does not answer" in warning.getMessage()


def test_without_redis_each_process_keeps_the_limit(tmp_path: Path) -> None:
    """For itself."""
    again("rate_limit", redis=RedisServer(tmp_path).url, include="tool:*", rate=0.001, burst=3)
    through = 0
    for number in range(5):
        try:
            look_up(number)
        except OperationCancelled:
            continue
        through += 1
    assert through == 3


def test_redis_may_come_back(tmp_path: Path, caplog: Log) -> None:
    """It is asked again after a while, and said to be back."""
    clock = Clock()
    server = RedisServer(tmp_path)
    connection = Redis("test", server.url, 5, pause=5, clock=clock)
    with caplog.at_level(logging.INFO, "llmspell_otel"):
        assert connection.ask(lambda client: client.ping()) is None
        with server:
            assert connection.ask(lambda client: client.ping()) is None
            clock.advance(5)
            assert connection.ask(lambda client: client.ping()) is True
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    connection.close()


def test_a_hanging_redis_costs_one_time_out(tmp_path: Path, caplog: Log) -> None:
    """Not one for each call."""
    with RedisServer(tmp_path) as server, redis.Redis.from_url(server.url) as other:
        again("rate_limit", redis=server.url, include="tool:*", redis_timeout=0.2)
        look_up(0)
        other.execute_command("CLIENT", "PAUSE", 3000, "ALL")
        began = time.monotonic()
        for number in range(30):
            look_up(number)
        assert time.monotonic() - began < 1.5
    assert len(calls) == 31
    assert len(caplog.records) == 1


def test_a_full_redis_is_as_good_as_none(tmp_path: Path, caplog: Log) -> None:
    """Outputs are kept in memory; the calls go on; one warning tells why."""
    with RedisServer(tmp_path, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        again("caching", redis=server.url, include="tool:*", redis_timeout=5)
        for number in range(30):
            look_up(f"{number}" * 50_000)
        assert len(calls) == 30
        assert look_up("29" * 50_000)["call"] == 30
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "maxmemory" in messages[0] or "OutOfMemory" in messages[0]


@pytest.mark.parametrize("url", ["localhost", "http://x", "redis://host:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """The error shows one."""
    with pytest.raises(SettingsError, match="redis://host:6379/0"):
        Hook.enable_builtin("caching", redis=url)


def test_a_missing_client_is_named() -> None:
    """With the extra that brings it."""
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from llmspell_otel import Hook\n"
        "from llmspell_otel.errors import SettingsError\n"
        "try: Hook.enable_builtin('caching', redis='redis://x')\n"
        "except SettingsError as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'llmspell-otel[redis]'" in ran.stdout
