"""OTLP over HTTP as it leaves the process: TLS, proxies, headers, connections, sizes."""

import gzip
import ssl
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from llmspell_exporters import encoding
from llmspell_exporters.answers import Verdict, http_answer
from llmspell_exporters.destination import destination
from llmspell_exporters.ledger import Book, Ledger, Signal
from llmspell_exporters.otlp import LedgeredSpanExporter
from tests.exporters.support import account, distinct, make_spans, span_exporter, tracing
from tests.kit.otlp import OtlpReceiver


class _Recorder(BaseHTTPRequestHandler):
    """Keeps each request; answers an empty success."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.requests.append((self.path, headers, body, self.client_address[1]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


@contextmanager
def recording(context: ssl.SSLContext | None = None) -> Iterator[Any]:
    """A plain or TLS server; its `requests` are what it got."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recorder) as server:
        server.requests = []  # type: ignore[attr-defined]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(count: int = 3, **options: Any) -> Any:
    """Export *count* spans; the books."""
    ledger = Ledger()
    exporter = LedgeredSpanExporter(protocol="http/protobuf", ledger=ledger, **options)
    with tracing(exporter) as provider:
        make_spans(provider, count)
        provider.force_flush()
    return account(ledger)


def server_context(certificates: dict[str, str], *, mutual: bool) -> ssl.SSLContext:
    """The server's side of TLS; *mutual* asks the client for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["server.pem"], certificates["server.key"])
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates["ca.pem"])
    return context


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
def test_tls_by_the_standard_variables(
    certificates: dict[str, str], mutual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority, and for mTLS our own certificate, come from `OTEL_EXPORTER_OTLP_*`."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", certificates["ca.pem"])
    if mutual:
        name = "OTEL_EXPORTER_OTLP_TRACES_CLIENT"
        monkeypatch.setenv(f"{name}_CERTIFICATE", certificates["client.pem"])
        monkeypatch.setenv(f"{name}_KEY", certificates["client.key"])
    with recording(server_context(certificates, mutual=mutual)) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"https://127.0.0.1:{server.server_port}")
        assert send().acknowledged == 3
        assert server.requests[0][0] == "/v1/traces"


def test_an_unknown_authority_is_not_trusted(certificates: dict[str, str]) -> None:
    """Nothing is sent to a server that cannot prove who it is; the spans are counted."""
    with recording(server_context(certificates, mutual=False)) as server:
        found = send(endpoint=f"https://127.0.0.1:{server.server_port}/v1/traces")
        assert found.lost == {"shutdown": 3}
        assert server.requests == []


def test_a_proxy_is_used_and_can_be_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HTTP_PROXY` gets the whole URL; `NO_PROXY` goes past it."""
    with recording() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert send(endpoint="http://collector.invalid:4318/v1/traces").acknowledged == 3
        assert proxy.requests[0][0] == "http://collector.invalid:4318/v1/traces"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with OtlpReceiver(grpc=False) as receiver:
            assert send(endpoint=f"{receiver.http_endpoint}/v1/traces").acknowledged == 3
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("compression", "decode"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)]
)
def test_bodies_are_compressed(compression: str, decode: Any) -> None:
    """The body is what an uncompressed one would be."""
    with recording() as server:
        url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        send(300, endpoint=url, compression=compression)
        _, headers, body, _ = server.requests[0]
        assert headers["content-encoding"] == compression
        assert len(decode(body)) > 2 * len(body)


def test_headers_query_and_user_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configured headers, the URL's query and its user are sent; our content type stays ours."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,content-type=text/plain")
    with recording() as server:
        send(endpoint=f"http://me:s%40cret@127.0.0.1:{server.server_port}/in?key=1")
        path, headers, *_ = server.requests[0]
        assert path == "/in?key=1"
        assert headers["x-tenant"] == "a b"
        assert headers["authorization"] == "Basic bWU6c0BjcmV0"
        assert headers["content-type"] == "application/x-protobuf"


def test_one_connection_serves_many_batches() -> None:
    """A connection is kept alive; when the server has closed it, the batch goes out on another."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with tracing(exporter) as provider:
            make_spans(provider, 1)
            provider.force_flush()
            receiver.refuse()
            receiver.accept()
            make_spans(provider, 1)
            provider.force_flush()
            assert account(ledger).acknowledged == 2 == distinct(receiver)
            assert not exporter.pipe.delivery.failing
    with recording() as server:
        url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        exporter = LedgeredSpanExporter(endpoint=url, ledger=Ledger())
        with tracing(exporter) as provider:
            for _ in range(3):
                make_spans(provider, 1)
                provider.force_flush()
        assert len({port for *_, port in server.requests}) == 1


def test_a_large_batch_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is longer than receivers take, unless one record alone is."""
    monkeypatch.setattr(encoding, "MOST", 1000)
    book = Book(Signal.TRACES)
    batch = [b"x" * size for size in (400, 400, 400, 2000, 10, 10, 10)]
    parts = list(encoding.encoded(b"".join, batch, book))
    assert b"".join(body for body, _ in parts) == b"".join(batch)
    assert sum(count for _, count in parts) == len(batch)
    assert [len(body) for body, count in parts if len(body) > 1000] == [2000]


@pytest.mark.parametrize(
    ("status", "headers", "body", "verdict", "detail"),
    [
        (200, {}, b"", Verdict.TAKEN, 0),
        (202, {"content-type": "application/json"}, b"{}", Verdict.TAKEN, 0),
        (
            200,
            {"content-type": "application/json; charset=utf-8"},
            b'{"partialSuccess": {"rejectedSpans": "4", "errorMessage": "no"}}',
            Verdict.TAKEN,
            4,
        ),
        (200, {"content-type": "application/json"}, b"[1]", Verdict.UNREADABLE, 0),
        (200, {"content-type": "text/html"}, b"<html>", Verdict.UNREADABLE, 0),
        (301, {}, b"", Verdict.REFUSED, 0),
        (500, {}, b"\xff", Verdict.REFUSED, 0),
        (429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"", Verdict.AGAIN, 0.0),
        (503, {"retry-after": "1.5"}, b"", Verdict.AGAIN, 1.5),
        (504, {"retry-after": "soon"}, b"", Verdict.AGAIN, None),
        (502, {"retry-after": "nan"}, b"", Verdict.AGAIN, None),
    ],
)
def test_answers_are_read_for_what_they_say(
    status: int, headers: dict[str, str], body: bytes, verdict: Verdict, detail: float | None
) -> None:
    """Success, partial success, refusal and postponement, as the OTLP specification has them."""
    answer = http_answer(status, headers, body)
    assert answer.verdict is verdict
    assert (answer.retry_after if verdict is Verdict.AGAIN else answer.rejected) == detail


def test_variables_of_a_signal_win(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Arguments, then the signal's variables, then the general ones; wrong ones are reported."""
    for name, value in {
        "ENDPOINT": "http://all:4318/",
        "TRACES_ENDPOINT": "http://traces/own/path",
        "TIMEOUT": "3",
        "LOGS_TIMEOUT": "never",
        "PROTOCOL": "http/json",
        "METRICS_PROTOCOL": "grpc",
        "METRICS_COMPRESSION": "deflate",
        "HEADERS": "a=1",
        "TRACES_HEADERS": "b=2",
    }.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    traces = destination(Signal.TRACES, timeout=1.0, headers={"C": "3"})
    assert (traces.endpoint, traces.timeout) == ("http://traces/own/path", 1.0)
    assert traces.headers == {"b": "2", "c": "3"}
    logs = destination(Signal.LOGS)
    assert (logs.endpoint, logs.protocol) == ("http://all:4318/v1/logs", "http/protobuf")
    assert (logs.timeout, logs.headers) == (10.0, {"a": "1"})
    metrics = destination(Signal.METRICS)
    assert (metrics.endpoint, metrics.protocol) == ("http://all:4318/", "grpc")
    assert metrics.compression == ""
    assert sum("http/json" in line for line in caplog.messages) == 2
    assert sum("never" in line for line in caplog.messages) == 1
    assert sum("deflate" in line for line in caplog.messages) == 1
