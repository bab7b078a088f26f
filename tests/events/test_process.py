"""Events at the end of a process, and across a fork."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llmspell_otel.events.journal import Journal


def run(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run *code* in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_end_of_the_process_drains_the_queues() -> None:
    """What waits at exit is still handled, in threads and in loops; nothing is said on stderr."""
    done = run("""
        import sys, time
        from llmspell_otel.events import Event

        def slow(event):
            time.sleep(0.002)
            sys.stdout.write(f"sync {event.data}\\n")  # in one piece: print writes two

        async def later(event):
            sys.stdout.write(f"async {event.data}\\n")

        Event.subscribe("n", slow, delivery="queued")
        Event.subscribe("n", later)
        for number in range(50):
            Event.publish("n", number)
    """)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if "async" in line] == [f"async {n}" for n in range(50)]
    assert [line for line in lines if "sync" in line.split()] == [f"sync {n}" for n in range(50)]


def test_publishing_while_the_interpreter_leaves_is_safe(tmp_path: Path) -> None:
    """In atexit, in daemon threads, after the loop is closed: no trace, code 7.

    With every kind of subscriber and a journal, and the end comes within the limit.
    """
    began = time.monotonic()
    done = run(
        """
        import asyncio, atexit, os, sys, threading, time
        from llmspell_otel.events import Event, default_bus
        from llmspell_otel.events.journal import Journal

        journal = Journal(sys.argv[1])
        journal.attach(default_bus())
        heard = []

        def tell():
            Event.publish("n", "atexit")
            os.write(1, f"{heard[-1]}\\n".encode())

        def forever():
            while True:
                Event.publish("n", "daemon")
                time.sleep(0.0001)

        async def later(event):
            await asyncio.sleep(0)

        async def main():
            Event.subscribe("n", later)
            Event.publish("n", 1)
            await asyncio.sleep(0)

        atexit.register(tell)
        Event.subscribe("n", lambda event: heard.append(event.data), where={"data": "atexit"})
        box = Event.subscribe("n", capacity=5)
        Event.subscribe("n", lambda event: None, delivery="queued")
        Event.subscribe("n", later)
        asyncio.run(main())
        Event.publish("n", 2)
        threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
        sys.exit(7)
    """,
        str(tmp_path),
    )
    assert done.returncode == 7
    assert time.monotonic() - began < 20
    assert done.stdout == "atexit\n"
    # The one thing said is that a subscription ended with the loop it lived on.
    said = [line for line in done.stderr.splitlines() if "its event loop is closed" not in line]
    assert said == []
    journal = Journal(tmp_path)
    kept = [event.data for event in journal.query("n")]
    assert (kept[:2], kept.count("atexit")) == ([1, 2], 1)
    assert kept.count("daemon") == len(kept) - 3
    journal.close()


@pytest.mark.parametrize("before", ["", "Event.publish('n', 'before')"], ids=["first", "again"])
@pytest.mark.parametrize("kind", ["inline", "queued"])
def test_finalizers_publish_when_nothing_can_be_imported_any_more(before: str, kind: str) -> None:
    """The last objects of the process are collected after everything is closed; nobody raises."""
    done = run(f"""
        import os, sys
        from llmspell_otel.events import Event

        class Late:
            def __del__(self, publish=Event.publish, write=os.write):
                write(1, publish("n", "del").data.encode())
                try:
                    import colorsys
                except ImportError:
                    write(1, b" very late ")

        # Handlers from this file would keep it, and the objects in it, from ever being collected.
        Event.subscribe("n", [].append, delivery="{kind}")
        {before}
        keep, cycle = Late(), Late()
        cycle.itself = cycle
        sys.exit(7)
    """)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "del very late " * 2


def test_a_hanging_handler_does_not_keep_the_process() -> None:
    """Exit waits for the limit of two seconds, not for the handler."""
    began = time.monotonic()
    done = run("""
        import time
        from llmspell_otel.events import Event
        Event.subscribe("n", lambda event: time.sleep(3600), delivery="queued")
        Event.publish("n", 1)
        Event.publish("n", 2)
        time.sleep(0.1)
    """)
    assert done.returncode == 0
    assert done.stderr == "subscription '<lambda>' is closed with 2 events undelivered\n"
    assert time.monotonic() - began < 10


def test_a_forked_child_starts_empty() -> None:
    """Full queues and held locks stay with the parent; both publish on, and nothing is twice.

    Ten children are forked while threads subscribe, publish, receive and log as fast as they can;
    each has ten seconds. The parent's books are exact to the event.
    """
    done = run("""
        import logging, os, signal, sys, threading, time
        from llmspell_otel.events import EventBus, make

        logging.basicConfig(stream=open(os.devnull, "w"))
        bus, got, ids, sent = EventBus(), [], [], 0
        gate, stop = threading.Event(), threading.Event()

        def handler(event):
            gate.wait(30)
            got.append((*event.data, threading.current_thread().native_id))
            ids.append(event.id)

        def fails(event):
            raise ValueError if event.data % 2 else KeyError

        options = {"delivery": "queued", "capacity": 500, "overflow": "drop_newest"}
        handle = bus.subscribe("n", handler, **options)
        bus.subscribe("busy", fails, delivery="queued", capacity=10, max_errors=None)
        bus.subscribe("busy", lambda event: None, delivery="queued", capacity=2, overflow="block")
        box = bus.mailbox("busy", capacity=5)

        def churn():
            while not stop.is_set():
                bus.subscribe("x.*", print).unsubscribe()

        def busy():
            while not stop.is_set():
                bus.publish(make("busy", 1))
                bus.publish(make("busy", 2))

        def receive():
            while not stop.is_set():
                box.receive_batch(3, 0.001)

        def publish(who, numbers):
            for number in numbers:
                bus.publish(make("n", (who, number)))
            return len(numbers)

        for work in (churn, churn, busy, busy, receive):
            threading.Thread(target=work, daemon=True).start()
        sent += publish("parent", range(700))
        time.sleep(0.05)
        assert handle.stats.dropped > 100, handle.stats

        def child(w):
            signal.alarm(10)
            assert handle.stats.published == handle.stats.queued == 0, handle.stats
            assert box.stats.queued == 0 and threading.active_count() == 1
            gate.set()
            assert (got, ids) == ([], [])
            publish("child", range(100))
            assert bus.flush(10)
            assert [(who, n) for who, n, _ in got] == [("child", n) for n in range(100)], got
            assert got[0][2] not in (os.getppid(), os.getpid())
            bus.subscribe("late", print).unsubscribe()
            bus.publish(make("busy", 1))
            assert box.receive(5) is not None
            bus.close(5)
            os.write(w, "".join(ids).encode())

        held, over = threading.Event(), threading.Event()

        def hold():  # as a thread in the middle of a publish does
            with box.flow._lock:
                held.set()
                over.wait(30)

        threading.Thread(target=hold, daemon=True).start()
        assert held.wait(10)
        children = []
        for turn in range(10):
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    child(w)
                    code = 0
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                finally:
                    os._exit(code)
            os.close(w)
            sent += publish("meanwhile", range(10))
            children.append((pid, r))
        theirs = []
        for pid, r in children:
            text = open(r).read()
            assert os.waitpid(pid, 0)[1] == 0
            theirs += [text[at : at + 36] for at in range(0, len(text), 36)]
        over.set()
        gate.set()
        assert bus.flush(20)
        sent += publish("later", range(100))
        assert handle.flush(10)
        stop.set()
        stats = handle.stats
        assert stats.published == sent == 900, stats
        assert stats.published == stats.delivered + stats.dropped, stats
        assert stats.delivered == len(got) == len(set(ids)), stats
        kept = len(got) - 100
        assert [(who, n) for who, n, _ in got[:kept]] == [("parent", n) for n in range(kept)]
        assert [(who, n) for who, n, _ in got[kept:]] == [("later", n) for n in range(100)]
        assert len(theirs) == len(set(theirs)) == 1000 and not set(theirs) & set(ids)
        origins = {each[-10:] for each in (*theirs, *ids)}
        assert len(origins) == 11, origins
        bus.close(5)
        print("fine")
    """)
    assert done.stdout == "fine\n", done.stderr
