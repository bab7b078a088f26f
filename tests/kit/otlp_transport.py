"""The two transports of the OTLP receiver: HTTP/1.1 and gRPC, on loopback."""

import contextlib
import gzip
import socket
import sys
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from tests.kit.otlp_faults import Fault

Receive: TypeAlias = Callable[[str, str, Mapping[str, str], bytes], tuple[Fault, bytes]]

PATHS = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
}
DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}
# https://opentelemetry.io/docs/specs/otlp/#failures and the gRPC-to-HTTP mapping it points to
GRPC_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}


def reserve() -> socket.socket:
    """Hold an ephemeral loopback port without listening: connections to it are refused."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # with block_on_close: `server_close` joins the handlers
    allow_reuse_port = True
    request_queue_size = 128

    def __init__(self, port: int, receive: Receive) -> None:
        self.receive = receive
        self.stopping = Event()
        self._open: set[socket.socket] = set()
        self._lock = Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection that clients keep alive."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what fails here, but not a client that goes away in mid-answer."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        signal = PATHS.get(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        decode = DECODERS.get(self.headers.get("Content-Encoding", ""))
        if signal is None:
            self._respond(404, _status(5, f"no such path: {self.path}"))
        elif decode is None or self.headers.get("Content-Type") != "application/x-protobuf":
            self._respond(415, _status(3, "send application/x-protobuf, plain or in gzip"))
        else:
            self._export(signal, decode, body)

    def _export(self, signal: str, decode: Callable[[bytes], bytes], body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            fault, answer = self.server.receive(signal, "http", headers, decode(body))
        except (ValueError, OSError, EOFError, zlib.error) as error:
            self._respond(400, _status(3, str(error)))
            return
        if fault.hang:
            self.server.stopping.wait(fault.hang)
        if fault.hang or fault.disconnect:
            self.close_connection = True
        elif fault.status != 200:
            self._respond(fault.status, _status(2, fault.message), fault)
        else:
            self._respond(200, answer, fault)

    def _respond(self, status: int, body: bytes, fault: Fault | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        if fault and fault.retry_after is not None:
            self.send_header("Retry-After", f"{fault.retry_after:g}")
        self.end_headers()
        if fault and fault.drip:
            self._drip(body, fault.drip)
        else:
            self.wfile.write(body)

    def _drip(self, body: bytes, interval: float) -> None:
        for byte in body:
            if self.server.stopping.wait(interval):
                return
            self.wfile.write(bytes([byte]))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Stay quiet: the receiver keeps its own record of requests."""


def _status(code: int, message: str) -> bytes:
    encoded: bytes = Status(code=code, message=message).SerializeToString()
    return encoded


class HttpListener:
    """OTLP/HTTP on one port that stays its own while it refuses connections."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._held = reserve()
        self.port: int = self._held.getsockname()[1]
        self._server: _Server | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Listen; does nothing where it already does."""
        if self._server is None:
            self._server = _Server(self.port, self._receive)
            self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End every connection, wait for the handlers, and refuse from now on."""
        if self._server is not None and self._thread is not None:
            self._server.stopping.set()
            self._server.shutdown()
            self._thread.join()
            self._server.hang_up()
            self._server.server_close()
            self._server = None

    def release(self) -> None:
        """Give the port back."""
        self._held.close()


class GrpcListener(grpc.GenericRpcHandler):
    """OTLP/gRPC on one port that stays its own while it refuses connections."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._held = reserve()
        self.port: int = self._held.getsockname()[1]
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Listen; does nothing where it already does."""
        if self._server is None:
            pool = ThreadPoolExecutor(8, "otlp-grpc")
            self._stopping = Event()
            self._server = grpc.server(pool, handlers=[self])
            self._server.add_insecure_port(f"127.0.0.1:{self.port}")
            self._server.start()
            self._pool = pool

    def stop(self) -> None:
        """End every connection, wait for the handlers, and refuse from now on."""
        if self._server is not None:
            self._stopping.set()
            self._server.stop(grace=0).wait()
            self._pool.shutdown()
            self._server = None

    def release(self) -> None:
        """Give the port back."""
        self._held.close()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """Find the handler of one RPC, or None for what OTLP does not have."""
        service, _, method = handler_call_details.method.strip("/").rpartition("/")
        signal = SERVICES.get(service)
        if signal is None or method != "Export":
            return None
        # Without serializers gRPC hands over and takes back the raw bytes of the messages.
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._export(signal, body, context)
        )

    def _export(self, signal: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        headers = {str(key): str(value) for key, value in context.invocation_metadata()}
        try:
            fault, answer = self._receive(signal, "grpc", headers, body)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if fault.hang or fault.drip:
            self._stopping.wait(fault.hang or fault.drip * len(answer))
        if fault.hang or fault.disconnect:
            context.abort(grpc.StatusCode.UNAVAILABLE, "connection dropped")
        if fault.status != 200:
            context.set_trailing_metadata(_retry_info(fault))
            context.abort(GRPC_STATUS.get(fault.status, grpc.StatusCode.UNKNOWN), fault.message)
        return answer


def _retry_info(fault: Fault) -> tuple[tuple[str, bytes], ...]:
    """Say when to come back, under both keys that senders look at."""
    if fault.retry_after is None:
        return ()
    seconds, rest = divmod(fault.retry_after, 1)
    info = RetryInfo(retry_delay=Duration(seconds=int(seconds), nanos=int(rest * 1e9)))
    status = Status(code=8, message=fault.message)
    status.details.add().Pack(info)
    return (
        ("google.rpc.retryinfo-bin", info.SerializeToString()),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
