"""Events at the end of a process, and across a fork."""

import subprocess
import sys
import textwrap
import time


def run(code: str) -> "subprocess.CompletedProcess[str]":
    """Run *code* in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
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


def test_publishing_while_the_interpreter_leaves_is_safe() -> None:
    """In atexit, in finalizers, in daemon threads, after the loop is closed: no trace, code 7."""
    done = run("""
        import asyncio, atexit, sys, threading, time
        from llmspell_otel.events import Event, default_bus

        class Late:
            def __del__(self):
                Event.publish("n", "del")

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

        keep = Late()
        atexit.register(Event.publish, "n", "atexit")
        Event.subscribe("n", lambda event: None, delivery="queued")
        Event.subscribe("n", later)
        asyncio.run(main())
        Event.publish("n", 2)
        threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
        sys.exit(7)
    """)
    assert done.returncode == 7
    # The one thing said is that a subscription ended with the loop it lived on.
    said = [line for line in done.stderr.splitlines() if "its event loop is closed" not in line]
    assert said == []


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
    """Full queues and held locks stay with the parent; the child has its own worker and ids."""
    done = run("""
        import os, sys, threading, time
        from llmspell_otel.events import EventBus, make
        from llmspell_otel.events.subscription import _logger

        bus, got, ids = EventBus(), [], set()
        gate = threading.Event()

        def handler(event):
            gate.wait(20)
            got.append(event.data)

        handle = bus.subscribe("n", handler, delivery="queued", capacity=1000)
        stop = threading.Event()

        def churn():
            while not stop.is_set():
                bus.subscribe("x.*", print).unsubscribe()
                bus.publish(make("busy"))

        threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(500):
            bus.publish(make("n", ("parent", number)))
        readers = []
        for child in range(10):
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    assert handle.stats.published == handle.stats.queued == 0, handle.stats
                    gate.set()
                    got.clear()
                    events = [make("n", ("child", number)) for number in range(100)]
                    for event in events:
                        bus.publish(event)
                    assert bus.flush(10)
                    deadline = time.monotonic() + 10
                    while len(got) < 100 and time.monotonic() < deadline:
                        time.sleep(0.01)
                    assert got == [("child", number) for number in range(100)], got
                    bus.subscribe("late", print).unsubscribe()
                    os.write(w, events[0].id.encode())
                    code = 0
                finally:
                    os._exit(code)
            os.close(w)
            readers.append((pid, r))
        for pid, r in readers:
            assert os.waitpid(pid, 0)[1] == 0
            ids.add(os.read(r, 36))
        stop.set()
        gate.set()
        assert len(ids) == 10
        bus.close(10)
        assert got == [("parent", number) for number in range(500)]
        stats = handle.stats
        assert (stats.published, stats.delivered) == (500, 500), stats
        print("fine")
    """)
    assert done.stdout == "fine\n", done.stderr
