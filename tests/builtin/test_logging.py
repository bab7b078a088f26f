"""The logging hook: levels, filters, safe lines, and where they arrive."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import _logs, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from llmspell_otel import Hook, agent, tool
from llmspell_otel.builtin.rendering import SECRET_KEYS, SECRET_PATTERNS, Renderer, cut, inert
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry.pipeline import Providers, Telemetry
from llmspell_otel.testing import Reply
from tests.builtin.support import ask

NAME = "llmspell_otel.calls"


@tool
def search(query: Any = "", api_key: str = "") -> dict[str, Any]:
    """A tool that may fail."""
    if query == "fail":
        raise ValueError("secret sk-abcdefgh12345678 in\nan error")
    return {"found": query}


@agent("clerk")
def clerk(query: Any = "") -> Any:
    """An agent with a tool."""
    return search(query)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The lines logged so far, as ``LEVEL message``."""
    with caplog.at_level(1, NAME):
        yield lambda: [
            f"{record.levelname} {record.getMessage()}"
            for record in caplog.records
            if record.name == NAME
        ]


Lines = Callable[[], list[str]]


def test_moments_have_levels_of_their_own(lines: Lines) -> None:
    """Starts are debug, ends info, failures errors; what is below the threshold is left out."""
    Hook.enable_builtin("logging", otel=False)
    search("a")
    with pytest.raises(ValueError, match="sk-"):
        search("fail")
    ended, failed = lines()
    assert ended.startswith("INFO tool:after_execution tool search ")
    assert " ms correlation=" in ended
    assert failed.startswith("ERROR tool:error tool search ")
    assert failed.endswith("error=ValueError")


@pytest.mark.parametrize(
    ("level", "count"),
    [("trace", 3), ("debug", 3), ("info", 1), ("warning", 0), ("error", 0), ("off", 0)],
)
def test_the_threshold_decides(lines: Lines, level: str, count: int) -> None:
    """Points below it have no hook at all."""
    Hook.enable_builtin("logging", level=level, points="tool:*", otel=False)
    clerk("a")
    assert len(lines()) == count
    if level == "off":
        assert not Hook.list(tag="logging")


def test_points_can_be_given_other_levels(lines: Lines) -> None:
    """By pattern or by name; the last that fits holds."""
    levels = {
        "custom:*": "off",
        "tool:*": "warning",
        "BeforeToolExecution": "critical",
        "agent:*": "off",
    }
    Hook.enable_builtin("logging", level="warning", levels=levels, otel=False)
    clerk("a")
    assert [line.split()[0] for line in lines()] == ["WARNING", "CRITICAL", "WARNING"]


def test_points_and_components_can_be_chosen(lines: Lines) -> None:
    """With wildcards; what is excluded is excluded."""
    Hook.enable_builtin(
        "logging",
        level="debug",
        points="tool:*,agent:after_e*",
        exclude_points="*:before_*",
        exclude="tool:sea*",
        otel=False,
    )
    clerk("a")
    (line,) = lines()
    assert line.startswith("INFO agent:after_execution agent clerk")


def test_content_is_logged_only_when_asked(lines: Lines) -> None:
    """And masked even then: by the names of keys, and by what a secret looks like."""
    Hook.enable_builtin("logging", otel=False)
    search("my number", api_key="hunter2")
    assert "my number" not in lines()[0]
    Hook.enable_builtin("logging", content=True, metadata=True, otel=False)
    search("my number, sk-abcdefgh12345678", api_key="hunter2")
    with pytest.raises(ValueError, match="sk-"):
        search("fail")
    ended, failed = lines()[1:]
    assert '"query": "my number, [redacted]", "api_key": "[redacted]"' in ended
    assert "metadata={" in ended
    assert "error=secret [redacted] in\\nan error" in failed
    assert "hunter2" not in ended
    assert "sk-abc" not in ended + failed


def test_masks_can_be_chosen(lines: Lines) -> None:
    """Names and patterns of one's own take the place of ours."""
    Hook.enable_builtin(
        "logging", content=True, redact_keys="query", redact_patterns=[r"\d{4,}"], otel=False
    )
    search({"deep": 1}, api_key="pin 12345")
    assert '"query": "[redacted]", "api_key": "pin [redacted]"' in lines()[0]


def test_a_line_is_one_line_that_no_terminal_acts_on(lines: Lines) -> None:
    """Newlines, escapes, NUL, bidirectional marks and half surrogates are written out."""
    hostile = "a\nb\r\x1b[31m\x00\u202e\u2028\ud800 \x9b end"
    Hook.enable_builtin("logging", content=True, otel=False)
    search(hostile)
    tool(hostile)(lambda: 1)()
    for line in lines():
        assert len(line.splitlines()) == 1
        assert inert(line) == line
        line.encode()


@given(st.text(), st.integers(16, 64))
def test_cutting_never_breaks_a_character(text: str, limit: int) -> None:
    """And never leaves more bytes than the limit."""
    short = cut(inert(text), limit)
    assert len(short.encode()) <= limit
    if len(inert(text).encode()) <= limit:
        assert short == inert(text)


def test_long_values_are_cut(lines: Lines) -> None:
    """To so many bytes each, with a mark."""
    Hook.enable_builtin("logging", content=True, max_bytes=64, otel=False)
    search("é" * 1000)
    (line,) = lines()
    assert "é…" in line
    assert len(line.encode()) < 400


def _deep(depth: int) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> Any:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


class Unreadable:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "value",
    [
        lambda: "x" * 100_000_000,
        lambda: _deep(10_000),
        _cycle,
        lambda: [_cycle()] * 10_000,
        Unreadable,
        lambda: 10**6000,
    ],
    ids=["huge", "deep", "cyclic", "many", "unreadable", "number"],
)
def test_hostile_values_cost_no_time(value: Callable[[], Any]) -> None:
    """Whatever they are, a line comes of it."""
    renderer = Renderer.of(1024, SECRET_KEYS, SECRET_PATTERNS)
    made = {"value": value()}
    began = time.process_time()
    text = renderer.text(made)
    assert time.process_time() - began < 0.25
    assert len(text.encode()) <= 1024


def test_a_secret_across_the_cut_is_masked() -> None:
    """It is masked before it is cut."""
    renderer = Renderer.of(40, SECRET_KEYS, SECRET_PATTERNS)
    for padding in range(60):
        assert "abcdefgh" not in renderer.text("x" * padding + " sk-abcdefgh12345678")


@pytest.mark.parametrize(
    ("key", "hidden"),
    [
        ("password", True),
        ("api_key", True),
        ("X-Api-Key", True),
        ("apiKey", True),
        ("accessToken", True),
        ("client_secrets", True),
        ("max_tokens", True),
        ("author", False),
        ("monkey", False),
        ("tokenizer", False),
    ],
)
def test_names_of_secrets(key: str, hidden: bool) -> None:
    """Whole words at the end of a name; numbers under such names are shown."""
    renderer = Renderer.of(1024, SECRET_KEYS, ())
    assert ("[redacted]" in renderer.text({key: "value"})) == hidden
    assert "[redacted]" not in renderer.text({key: 3})


def test_a_threshold_of_the_logger_itself_holds(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is rendered for nobody."""
    Hook.enable_builtin("logging", otel=False)
    with caplog.at_level(logging.ERROR, NAME):
        search("a")
    assert not caplog.records


def test_structlog_renders_it(caplog: pytest.LogCaptureFixture) -> None:
    """Through its formatter for standard records, with our fields."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logger = logging.getLogger("mine")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        Hook.enable_builtin("logging", logger="mine", otel=False)
        search("a")
    finally:
        logger.removeHandler(handler)
    line = json.loads(out.getvalue())
    assert line["event"].startswith("tool:after_execution tool search")
    assert line["llmspell.hook.point"] == "tool:after_execution"
    assert line["llmspell.component.name"] == "search"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """The log records that a provider of the SDK exports; spans are made too."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs, "get_logger", _logger_of(provider))
    monkeypatch.setattr(_logs, "get_logger_provider", lambda: provider)
    telemetry = Telemetry(Providers(tracer=TracerProvider(), logger=LoggerProvider()))
    monkeypatch.setattr(ports, "telemetry", telemetry)
    yield exporter
    provider.shutdown()


def _logger_of(provider: LoggerProvider) -> Callable[..., Any]:
    def get_logger(name: str, *_: Any, **options: Any) -> Any:
        return provider.get_logger(name)

    return get_logger


def test_lines_are_log_records_of_their_span(
    exported: InMemoryLogRecordExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """With its ids, both in OpenTelemetry and in the standard record."""
    Hook.enable_builtin("logging")
    seen: list[Any] = []
    Hook.register(
        "tool:after_execution", lambda context: seen.append(context.operation), priority="high"
    )
    with caplog.at_level(logging.INFO, NAME):
        search("a")
    (operation,) = seen
    (exported_one,) = exported.get_finished_logs()
    record = exported_one.log_record
    assert (record.trace_id, record.span_id) == (operation.trace_id, operation.span_id)
    assert record.severity_number is SeverityNumber.INFO
    assert str(record.body).startswith("tool:after_execution tool search")
    assert record.attributes["llmspell.hook.point"] == "tool:after_execution"
    (standard,) = [each for each in caplog.records if each.name == NAME]
    assert standard.trace_id == f"{operation.trace_id:032x}"  # type: ignore[attr-defined]
    assert standard.span_id == f"{operation.span_id:016x}"  # type: ignore[attr-defined]


def test_a_handler_that_reads_the_current_span_finds_the_calls(
    exported: InMemoryLogRecordExporter,
) -> None:
    """While the line is logged, and no longer."""
    spans: list[int] = []

    class Reading(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            spans.append(trace.get_current_span().get_span_context().span_id)

    handler = Reading()
    logger = logging.getLogger("mine")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        Hook.enable_builtin("logging", logger="mine", otel=False)
        search("a")
    finally:
        logger.removeHandler(handler)
    assert spans[0] != 0
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.usefixtures("instrumented")
def test_real_calls_are_logged(
    lines: Lines, serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Plain, streamed and failing ones of a real SDK."""
    Hook.enable_builtin("logging", level="trace", content=True, points="model:*", otel=False)
    served = serve(Reply.text("hello"), Reply.text("streamed, that"), Reply.error(500, "down"))
    ask(served.client)
    list(ask(served.client, stream=True))
    with pytest.raises(Exception, match="down"):
        ask(served.client)
    points = [line.split()[1] for line in lines()]
    assert points[:3] == ["model:before_call", "model:after_call", "model:before_call"]
    assert points[3:6] == ["model:stream_chunk"] * 3
    assert points[-2:] == ["model:before_call", "model:error"]
    assert '"content": "hello"' in lines()[1]
