"""OTLP over gRPC as it leaves the process: TLS, mTLS, and whom it trusts."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from llmspell_exporters.exit_budget import Budget
from llmspell_exporters.ledger import Account, Ledger
from llmspell_exporters.otlp import LedgeredSpanExporter
from tests.exporters.support import account, make_spans, tracing


class _Recorder(grpc.GenericRpcHandler):
    """Keeps the name of each call; answers an empty success."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            names: Any = context.auth_context().get("x509_common_name", [b""])
            peer = names[0].decode()
            self.calls.append(f"{handler_call_details.method} {peer}".strip())
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def recording(certificates: dict[str, str], *, mutual: bool) -> Generator[tuple[_Recorder, int]]:
    """A server with TLS that, if *mutual*, asks its clients for a certificate; and its port."""

    def read(name: str) -> bytes:
        return Path(certificates[name]).read_bytes()

    credentials = grpc.ssl_server_credentials(
        [(read("server.key"), read("server.pem"))],
        root_certificates=read("ca.pem") if mutual else None,
        require_client_auth=mutual,
    )
    recorder = _Recorder()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[recorder])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield recorder, port
        server.stop(grace=0).wait()


def sent(port: int) -> Account:
    """Export three spans to *port*, by what the environment says; the books."""
    ledger = Ledger()
    exporter = LedgeredSpanExporter(
        protocol="grpc",
        endpoint=f"https://127.0.0.1:{port}",
        ledger=ledger,
        shutdown_budget=Budget(3.0),
    )
    with tracing(exporter) as provider:
        make_spans(provider, 3)
        provider.force_flush(2000)
    return account(ledger)


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
    with recording(certificates, mutual=mutual) as (server, port):
        assert sent(port).acknowledged == 3
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    assert set(server.calls) == {f"{method} client" if mutual else method}


def test_an_unknown_authority_is_not_trusted(certificates: dict[str, str]) -> None:
    """Nothing is sent to a server that cannot prove who it is; the spans are counted."""
    with recording(certificates, mutual=False) as (server, port):
        assert sent(port).lost == {"shutdown": 3}
    assert server.calls == []


def test_a_client_without_a_certificate_is_not_let_in(
    certificates: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that asks for one takes nothing from who has none; the spans are counted."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", certificates["ca.pem"])
    with recording(certificates, mutual=True) as (server, port):
        assert sent(port).lost == {"shutdown": 3}
    assert server.calls == []


def test_a_certificate_file_that_is_not_there_is_one_clear_message(
    certificates: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is rejected, with the file's name in the receiver's place."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
    with recording(certificates, mutual=False) as (_, port):
        found = sent(port)
    assert found.rejected == {"unusable_destination": 3}
    assert "/nowhere/ca.pem" in found.messages["unusable_destination"]
