"""Budgets that processes share through a real Redis, and Redis at its worst."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from openai import AsyncOpenAI, OpenAI

from llmspell_otel import Hook
from llmspell_otel.builtin.budgets import Budget, Claim, UnreachableError
from llmspell_otel.builtin.cost_tracking import around, totals
from llmspell_otel.builtin.shared import Redis
from llmspell_otel.builtin.shared_budgets import SharedPurses, units
from llmspell_otel.builtin.spending import Ledger
from llmspell_otel.errors import OperationCancelled
from llmspell_otel.testing import ModelServer, Reply, Usage
from tests.builtin.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("instrumented")
Log = pytest.LogCaptureFixture
PRICES = {"gpt-5-mini": {"input": "0.1", "output": "0.3"}}
ONE = Decimal("0.000013")  # 100 tokens at 0.1, 10 at 0.3, per million
TEXT = "x" * 300  # at three characters a token, what the server says was used, and a little more


@pytest.fixture
def models() -> Iterator[ModelServer]:
    """A provider that always uses 100 tokens for 10."""
    with ModelServer(lambda _: Reply.text("hi", usage=Usage(input=100, output=10))) as serving:
        yield serving


def ask(models: ModelServer, client: Any = None) -> Any:
    """Ask the model for ten tokens at most."""
    if client is None:
        with OpenAI(base_url=models.base_url, api_key="k", max_retries=0, timeout=10) as mine:
            return ask(models, mine)
    messages = [{"role": "user", "content": TEXT}]
    create = client.chat.completions.create
    return create(model="gpt-5-mini", messages=messages, max_completion_tokens=10)


def track(url: str, **settings: Any) -> Any:
    """Begin anew, as another process would, with a budget for ten calls."""
    Hook.disable_builtin("cost_tracking")
    given = {"prices": PRICES, "redis": url, "redis_timeout": 5, "window": 0}
    budgets = [{"limit": str(10 * ONE + ONE / 2), "warn": []}]
    Hook.enable_builtin("cost_tracking", {**given, "budgets": budgets, **settings})
    return around.tracker


class Late:
    """Stands before a Redis; while *silent*, what is asked is done, and its answer kept back."""

    def __init__(self, port: int) -> None:
        self.silent = False
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._taking = threading.Thread(target=self._take)

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._pass, args=(one, other, near), daemon=True
                    ).start()

    def _pass(self, one: socket.socket, other: socket.socket, near: socket.socket) -> None:
        with suppress(OSError), other:
            while data := one.recv(65536):
                if not (self.silent and other is near):
                    other.sendall(data)

    def __enter__(self) -> Self:
        self._taking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._taking.join()


def asked(models: ModelServer, times: int) -> int:
    """How many of so many calls were let through."""
    through = 0
    for _ in range(times):
        try:
            ask(models)
        except OperationCancelled:
            continue
        through += 1
    return through


WORKER = """
import json, sys, llmspell_otel
from concurrent.futures import ThreadPoolExecutor
from openai import OpenAI
from llmspell_otel import Hook, OperationCancelled
from llmspell_otel.builtin.cost_tracking import totals

settings, url, text, times = json.loads(sys.argv[1])
llmspell_otel.instrument("openai")
Hook.enable_builtin("cost_tracking", settings)
client = OpenAI(base_url=url, api_key="k", max_retries=0, timeout=30)

def ask(_):
    try:
        messages = [{"role": "user", "content": text}]
        create = client.chat.completions.create
        create(model="gpt-5-mini", messages=messages, max_completion_tokens=10)
    except OperationCancelled:
        return 0
    return 1

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as pool:
    through = sum(pool.map(ask, range(times)))
print(json.dumps([through, str(totals()[""]["USD"].cost)]))
"""


def test_two_processes_share_one_budget(
    server: RedisServer, client: Any, models: ModelServer
) -> None:
    """Together, at once and in threads, they spend what one may, and not a call more."""
    limit = 40 * ONE + ONE / 2
    settings = {
        "prices": PRICES,
        "redis": server.url,
        "redis_timeout": 10,
        "budgets": [{"limit": str(limit), "warn": []}],
        "window": 0,
    }
    line = [sys.executable, "-c", WORKER, json.dumps([settings, models.base_url, TEXT, 60])]
    workers = [
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate(timeout=100)[0]) for worker in workers]
    through = [each[0] for each in told]
    spent = sum((Decimal(each[1]) for each in told), Decimal(0))
    assert all(through)
    # While others hold money the last calls may find no room, though some is left in the end.
    assert 30 <= sum(through) <= 40
    assert spent == sum(through) * ONE <= limit
    assert len(models.requests) == sum(through)
    (key,) = client.keys("llmspell:cost:spent:*")
    assert int(client.get(key)) == units(spent)
    assert not client.keys("llmspell:cost:held:*")


def test_a_restart_forgets_nothing(server: RedisServer, client: Any, models: ModelServer) -> None:
    """Sums are in Redis; the limit holds for whoever comes next."""
    track(server.url)
    assert asked(models, 6) == 6
    track(server.url)
    assert asked(models, 6) == 4
    assert totals()[""]["USD"].calls == 4


def test_asynchronous_calls_share_it_too(
    server: RedisServer, client: Any, models: ModelServer
) -> None:
    """Redis is asked in a thread; what is held is never more than there is."""
    track(server.url)

    async def herd() -> list[Any]:
        async with AsyncOpenAI(base_url=models.base_url, api_key="k", max_retries=0) as mine:
            calls = [ask(models, mine) for _ in range(20)]
            return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(herd())
    refused = [each for each in answers if isinstance(each, OperationCancelled)]
    assert 20 - len(refused) == len(models.requests)
    assert 1 <= len(models.requests) <= 10
    assert asked(models, 20) == 10 - len(models.requests)


def purses(url: str, **given: Any) -> SharedPurses:
    """Purses by themselves."""
    redis = Redis("test", url, 5, pause=0.0)
    settings: dict[str, Any] = {"window": 0, "hold": 60.0, "closed": False, **given}
    return SharedPurses(redis, "t:", Ledger(0), **settings)


class Call:
    """A call under way."""


def claim(cost: str, limit: str = "1", **budget: Any) -> list[Claim]:
    """What it takes."""
    return [Claim(0, Budget(limit=Decimal(limit), **budget), "", Decimal(cost))]


def test_who_dies_gives_back_what_it_held(server: RedisServer, client: Any) -> None:
    """After the time that money is held."""
    one, other, call = purses(server.url, hold=0.3), purses(server.url), Call()
    assert one.reserve(call, claim("0.9"), 0) is None
    refused = other.reserve(Call(), claim("0.2"), 0)
    assert refused is not None
    assert refused.spent == 0
    time.sleep(0.35)
    assert other.reserve(Call(), claim("0.2"), 0) is None


def test_sums_are_exact(server: RedisServer, client: Any) -> None:
    """A thousand tenths of a millionth are what they are; less than a unit counts as one."""
    mine = purses(server.url)
    for _ in range(999):
        mine.settle(Call(), claim("0.0000001"), 0)
    assert mine.settle(Call(), claim("0.0000001"), 0) == [Decimal("0.0001")]
    assert mine.settle(Call(), claim("1e-15"), 0) == [Decimal("0.000100000001")]


def test_each_window_and_name_has_its_own(server: RedisServer, client: Any) -> None:
    """And Redis forgets windows that are over."""
    mine = SharedPurses(
        Redis("test", server.url, 5), "t:", Ledger(60), window=60, hold=60, closed=False
    )
    assert mine.settle(Call(), claim("1"), 30) == [1]
    assert mine.settle(Call(), claim("1"), 61) == [1]
    ada = [each._replace(name="ada") for each in claim("2", by="user")]
    assert mine.settle(Call(), ada, 61) == [2]
    assert {0 < client.pttl(key) <= 60_000 + 86_400_000 for key in client.keys("*")} == {True}
    runs = purses(server.url)
    runs.settle(Call(), [each._replace(name="r") for each in claim("1", by="run")], 0)
    assert client.pttl("t:spent:0:USD:run:r") > 0


# -- faults


def test_without_redis_this_process_keeps_its_budget(
    tmp_path: Path, models: ModelServer, caplog: Log
) -> None:
    """Calls go on, one warning says so, and the limit holds here."""
    track(RedisServer(tmp_path).url)
    assert asked(models, 15) == 10
    warnings = [each for each in caplog.records if "Redis does not answer" in each.getMessage()]
    assert len(warnings) == 1


def test_without_redis_nothing_is_spent_if_so_told(tmp_path: Path, models: ModelServer) -> None:
    """No request leaves."""
    track(RedisServer(tmp_path).url, on_redis_failure="cancel")
    with pytest.raises(OperationCancelled, match="shared budgets cannot be reached"):
        ask(models)
    assert not models.requests
    with pytest.raises(UnreachableError):
        purses(RedisServer(tmp_path).url, closed=True).reserve(Call(), claim("1"), 0)


def test_what_was_spent_meanwhile_is_put_down_when_redis_is_back(tmp_path: Path) -> None:
    """Nothing is forgotten, and nothing counted twice."""
    away = RedisServer(tmp_path)
    mine = purses(away.url)
    for _ in range(3):
        mine.settle(Call(), claim("0.1"), 0)
    with away:
        assert mine.settle(Call(), claim("0.1"), 0) == [Decimal("0.4")]
        assert mine.settle(Call(), claim("0.1"), 0) == [Decimal("0.5")]


def test_an_answer_that_came_too_late_counts_once(server: RedisServer, client: Any) -> None:
    """Redis made the settlement, and its answer did not come: asked again, it adds nothing."""
    with Late(server.port) as proxy:
        redis_ = Redis("test", proxy.url, 0.3, pause=0.0)
        mine = SharedPurses(redis_, "b:", Ledger(0), window=0, hold=60, closed=False)
        call = Call()
        assert mine.reserve(call, claim("0.1"), 0) is None
        proxy.silent = True
        mine.settle(call, claim("0.1"), 0)
        assert int(client.get("b:spent:0:USD:total:")) == units(Decimal("0.1"))
        proxy.silent = False
        assert mine.settle(Call(), claim("0.2"), 0) == [Decimal("0.3")]
        assert not client.hlen("b:held:USD:total:")


def test_what_a_late_answer_holds_for_a_refused_call_is_let_go(
    server: RedisServer, client: Any
) -> None:
    """At the next call, not after `redis_hold`."""
    with Late(server.port) as proxy:
        redis_ = Redis("test", proxy.url, 0.3, pause=0.0)
        mine = SharedPurses(redis_, "b:", Ledger(0), window=0, hold=600, closed=True)
        mine.settle(Call(), claim("0"), 0)
        proxy.silent = True
        with pytest.raises(UnreachableError):
            mine.reserve(Call(), claim("0.1"), 0)
        assert client.hlen("b:held:USD:total:") == 1
        proxy.silent = False
        other = Call()
        assert mine.reserve(other, claim("0.2"), 0) is None
        assert client.hlen("b:held:USD:total:") == 1
        assert mine.settle(other, claim("0.2"), 0) == [Decimal("0.2")]


def test_a_hanging_redis_costs_one_time_out(
    tmp_path: Path, models: ModelServer, caplog: Log
) -> None:
    """Not one for each call."""
    with RedisServer(tmp_path) as hanging, redis.Redis.from_url(hanging.url) as other:
        track(hanging.url, redis_timeout=0.2)
        ask(models)
        other.execute_command("CLIENT", "PAUSE", 4000, "ALL")
        began = time.monotonic()
        assert asked(models, 8) == 8
        assert time.monotonic() - began < 3
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1


def test_a_full_redis_is_as_good_as_none(tmp_path: Path, models: ModelServer, caplog: Log) -> None:
    """Calls go on; one warning tells why."""
    with ExitStack() as stack:
        options = ("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
        full = stack.enter_context(RedisServer(tmp_path, *options))
        track(full.url)
        assert asked(models, 3) == 3
    (warning,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "maxmemory" in warning.getMessage()
