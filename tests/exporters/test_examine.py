"""What the doctor says of deliveries: real programs, real faults, then `llmspell-otel doctor`."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.servers import eventually, free_ports
from tests.kit import otlp_faults as faults
from tests.kit.otlp import OtlpReceiver

PROGRAM = """
    import logging, sys
    from opentelemetry import trace
    tracer = trace.get_tracer("trial")
    for number in range(5):
        tracer.start_span(f"span {number}").end()
    print("made", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A program's environment, which sends spans to nobody, and the doctor's."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return clean | {
        "LLMSPELL_OTEL_STATE_DIR": str(tmp_path / "state"),
        "TMPDIR": str(tmp_path),  # the doctor looks there too, for books of every program
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_ports(1)[0]}",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "trial-agent",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "LLMSPELL_OTEL_SHUTDOWN_TIMEOUT": "2",
    }


@contextmanager
def running(environment: Mapping[str, str], folder: Path) -> Generator[subprocess.Popen[str]]:
    """A program in *folder*, run by us, that has ended five spans and waits for a line."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    with subprocess.Popen(
        [sys.executable, "-m", "llmspell_otel.cli", "run", str(path)],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "made\n", process.communicate()
            yield process
        finally:
            process.kill()


def ran(environment: Mapping[str, str], folder: Path) -> str:
    """Let the program run to its end; what it said on stderr."""
    with running(environment, folder) as process:
        return process.communicate("\n", timeout=60)[1]


def doctor(
    environment: Mapping[str, str], *options: str, folder: Path | None = None
) -> tuple[int, str]:
    """What the doctor answers, and says of deliveries."""
    done = subprocess.run(
        [sys.executable, "-m", "llmspell_otel.cli", "doctor", *options],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.partition("delivery\n")[2]


def test_after_a_run_whose_collector_was_dead(environment: dict[str, str], tmp_path: Path) -> None:
    """Spooled spans are shown with the folder they wait in; and, once sent, as adopted."""
    environment["LLMSPELL_OTEL_SPOOL_DIR"] = spool = str(tmp_path / "spool")
    ran(environment, tmp_path)
    status, said = doctor(environment)
    assert status == 1  # because nobody answers, not because of the spool
    assert "trial-agent (process " in said
    assert ", ended), books of " in said
    books = "0 queued, 0 acknowledged, 0 rejected, 5 spooled, 0 lost"
    assert f"--   spans: 5 made, {books}\n" in said
    assert f"-- spool {spool}: 5 spans in 1 batches (" in said
    with OtlpReceiver(grpc=False) as receiver:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http_endpoint
        ran(environment, tmp_path)
        status, said = doctor(environment)
    assert status == 0, said
    books = "0 queued, 10 acknowledged, 0 rejected, 0 spooled, 0 lost"
    assert f"ok   spans: 5 made and 5 adopted, {books}\n" in said
    assert f"ok spool {spool}: empty\n" in said
    assert said.count("trial-agent") == 1  # the latest run of a service is the one that counts


def test_after_a_run_that_lost_spans(environment: dict[str, str], tmp_path: Path) -> None:
    """Without a spool they are lost: how many, and why, and it is an error of its own."""
    assert "shutdown lost 5" in ran(environment, tmp_path)
    environment["OTEL_TRACES_EXPORTER"] = "none"
    status, said = doctor(environment)
    assert status == 1
    books = "0 queued, 0 acknowledged, 0 rejected, 0 spooled, 5 lost (shutdown 5)"
    assert f"!!   spans: 5 made, {books}\n" in said
    # A run after it, of another service, that lost nothing: the old loss is shown, no more.
    with OtlpReceiver(grpc=False) as receiver:
        later = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint, "OTEL_SERVICE_NAME": "b"}
        ran(environment | {"OTEL_TRACES_EXPORTER": "otlp"} | later, tmp_path)
    status, said = doctor(environment)
    assert status == 0, said
    assert f"--   spans: 5 made, {books}\n" in said


def test_what_the_receiver_refused_is_shown_with_its_words(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A partial success is counted, and the receiver's message is there to read."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.keep_misbehaving(faults.partial(2, "names are too long"))
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http_endpoint
        ran(environment, tmp_path)
        _, said = doctor(environment)
    assert "3 acknowledged, 2 rejected (partial_success 2: names are too long)," in said


def test_while_the_program_runs_and_after_it_was_killed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A second process sees the books of a live one; after `kill -9`, what went with it."""
    with running(environment, tmp_path) as process:
        state = tmp_path / "state"
        assert eventually(lambda: list(state.glob("*.books")), 20)
        said = doctor(environment)[1]
        assert f"trial-agent (process {process.pid}, running), books of" in said
        assert "ok   spans: 5 made, 5 queued, 0 acknowledged," in said
        process.send_signal(signal.SIGKILL)
        process.wait()
        status, said = doctor(environment)
    assert f"process {process.pid}, broke off)" in said
    assert "!!   spans: 5 made, 5 queued, which its end has lost, 0 acknowledged," in said
    assert status == 1


def test_another_programs_losses_are_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    """In the folder that all share: what was started here, or the service that is named."""
    del environment["LLMSPELL_OTEL_STATE_DIR"], environment["OTEL_SERVICE_NAME"]
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with OtlpReceiver(grpc=False) as receiver:
        good = environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint}
        ran(good, here)
        ran(environment | {"OTEL_RESOURCE_ATTRIBUTES": "service.name=other"}, there)
        status, said = doctor(good, folder=here)
        assert status == 0, said
        assert "ok   spans: 5 made, 0 queued, 5 acknowledged" in said
        assert f"-- not shown: other ({there}), which exported something" in said
        assert "shutdown 5" not in said
        named = good | {"OTEL_RESOURCE_ATTRIBUTES": "service.name=other"}
        status, said = doctor(named, folder=here)
        assert (status, said.count("spans:")) == (1, 1)
        assert "!!   spans: 5 made" in said
        assert doctor(good, "--all", folder=here)[1].count("spans: 5 made") == 2
        status, said = doctor(good, folder=tmp_path)
        assert status == 0
        assert "this program has exported nothing" in said


@pytest.mark.parametrize("state", ["none", "/dev/null/no/folder"], ids=["none", "impossible"])
def test_a_program_without_a_place_for_books_runs_all_the_same(
    environment: dict[str, str], tmp_path: Path, state: str
) -> None:
    """Nothing is written, nothing is said, and the doctor knows why there is nothing to read."""
    environment |= {"LLMSPELL_OTEL_STATE_DIR": state, "TMPDIR": str(tmp_path)}
    with OtlpReceiver(grpc=False) as receiver:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http_endpoint
        assert ran(environment, tmp_path) == ""
        _, said = doctor(environment)
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]
    assert ("no books are kept" if state == "none" else "this program has exported nothing") in said


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_receivers_are_asked_the_way_that_records_go(
    environment: dict[str, str], protocol: str
) -> None:
    """By the protocol, headers and all; and credentials in an address are not shown."""
    with OtlpReceiver() as receiver:
        named = receiver.environment(protocol)
        named["OTEL_EXPORTER_OTLP_HEADERS"] = "x-token=abc"
        named["OTEL_EXPORTER_OTLP_ENDPOINT"] = named["OTEL_EXPORTER_OTLP_ENDPOINT"].replace(
            "//", "//user:pass-phrase@"
        )
        done = subprocess.run(
            [sys.executable, "-m", "llmspell_otel.cli", "doctor"],
            env=environment | named,
            capture_output=True,
            text=True,
            check=False,
        )
        exports = receiver.exports
    assert done.returncode == 0, done.stdout
    assert "pass-phrase" not in done.stdout + done.stderr
    assert {export.signal for export in exports} == {"traces", "metrics", "logs"}
    assert {export.headers["x-token"] for export in exports} == {"abc"}
    assert not any(export.records for export in exports)
