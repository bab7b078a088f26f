"""What faults of a receiver cost: the SDK's exporter, ours, ours with a spool.

`python -m tests.benchmarks.export_losses` runs them all, a process each, and prints how many of the
spans made are not in the store, and what the books say about it.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.kit import otlp_faults as faults
from tests.kit.otlp import OtlpReceiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A fault that begins and ends so many seconds after the first span; None is never."""

    name: str
    begin: Callable[[OtlpReceiver], None]
    since: float = 2.0
    until: float | None = None
    rate: int = 200
    spans: int = 2400


def _standing(fault: faults.Fault) -> Callable[[OtlpReceiver], None]:
    return lambda receiver: receiver.keep_misbehaving(fault)


SCENARIOS = (
    Scenario(name="down for 5 s", begin=OtlpReceiver.refuse, until=7.0),
    Scenario(name="down for 20 s", begin=OtlpReceiver.refuse, until=22.0, spans=5000),
    Scenario(
        name="down for 5 s, 1,000 spans/s",
        begin=OtlpReceiver.refuse,
        until=7.0,
        rate=1000,
        spans=10_000,
    ),
    Scenario(name="503 to the end", begin=_standing(faults.error(503))),
    Scenario(name="hangs to the end", begin=_standing(faults.hang())),
    Scenario(name="drips to the end", begin=_standing(faults.drip(1.0))),
    Scenario(name="400 for 5 s", begin=_standing(faults.error(400)), until=7.0),
    Scenario(name="garbage 200 for 5 s", begin=_standing(faults.garbage()), until=7.0),
    Scenario(name="rejects 3 of each batch", begin=_standing(faults.partial(3)), since=0.0),
)
VARIANTS = ("sdk", "ours", "spool")


def program(variant: str, endpoint: str, rate: str, spans: str, spool: str) -> None:
    """Make spans at a rate; print the seconds of the shutdown and the books."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    processor, ledger = _processor(variant, endpoint, spool)
    provider.add_span_processor(processor)
    tracer, started = provider.get_tracer("losses"), time.monotonic()
    print("go", flush=True)
    for number in range(int(spans)):
        time.sleep(max(started + number / int(rate) - time.monotonic(), 0))
        tracer.start_span("work", attributes={"number": number}).end()
    began = time.monotonic()
    provider.shutdown()
    print(f"{time.monotonic() - began:.1f}")
    print(ledger.snapshot()["traces"] if ledger else "-")


def _processor(variant: str, endpoint: str, spool: str) -> tuple[Any, Any]:
    from pathlib import Path

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from llmspell_exporters.ledger import ledger
    from llmspell_exporters.otlp import LedgeredSpanExporter
    from llmspell_exporters.processors import LedgeredSpanProcessor
    from llmspell_exporters.spool import Spool

    if variant == "sdk":
        return BatchSpanProcessor(OTLPSpanExporter(endpoint), schedule_delay_millis=1000), None
    store = Spool(Path(spool)) if variant == "spool" else None
    exporter = LedgeredSpanExporter(endpoint=endpoint, store=store)
    return LedgeredSpanProcessor(exporter, delay=1.0), ledger


def run(scenario: Scenario, variant: str) -> tuple[int, str, str]:
    """One program beside one receiver: spans not stored, seconds of shutdown, books."""
    with OtlpReceiver(grpc=False) as receiver, tempfile.TemporaryDirectory() as spool:
        command = [sys.executable, "-m", "tests.benchmarks.export_losses", variant]
        command += [f"{receiver.http_endpoint}/v1/traces", str(scenario.rate), str(scenario.spans)]
        with subprocess.Popen(
            [*command, spool], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(scenario.since)
            scenario.begin(receiver)
            if scenario.until is not None:
                time.sleep(scenario.until - scenario.since)
                receiver.behave()
            seconds, books = child.stdout.readline().strip(), child.stdout.readline().strip()
        receiver.behave()
        stored = {span.span_id for span in receiver.spans()}
        return scenario.spans - len(stored), seconds, books


def main() -> None:
    """Run every scenario with every variant, three at a time, and print a table."""
    with ThreadPoolExecutor(3) as pool:
        runs = {
            (scenario.name, variant): pool.submit(run, scenario, variant)
            for scenario in SCENARIOS
            for variant in VARIANTS
        }
        for (name, variant), future in runs.items():
            missing, seconds, books = future.result()
            print(
                f"{name:28} {variant:6} {missing:6} missing  exit {seconds:>5} s  {books}",
                flush=True,
            )


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else program(*sys.argv[1:])
