"""OTLP over HTTP, held to one deadline per attempt however slowly the receiver writes.

The official client cannot be used for this: it throws the answer's body away, and its timeouts
begin anew with every byte received.
"""

import base64
import gzip
import http.client
import io
import os
import socket
import ssl
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Final

from llmspell_exporters.answers import Answer, again, http_answer, refused
from llmspell_exporters.destination import Destination

_CHUNK: Final = 65536
_MOST: Final = 1 << 20  # bytes of an answer that are read
_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "gzip": lambda body: gzip.compress(body, compresslevel=6),
    "deflate": zlib.compress,
}


class _Wire(io.RawIOBase):
    """A connected socket, all of whose reads and writes together end at one deadline."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.deadline = 0.0

    def _limit(self) -> None:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the attempt's time is up")
        self._socket.settimeout(remaining)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._limit()
        return self._socket.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._limit()
            view = view[self._socket.send(view[:_CHUNK]) :]

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Borrowed(self))

    def hang_up(self) -> None:
        """End what another thread waits for on this socket."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()
        super().close()


class _Borrowed(io.RawIOBase):
    """Reads from a wire, and leaves it open when the answer has been read."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.readinto(buffer)


class HttpSender:
    """Posts encoded requests to one URL over a connection that is kept alive."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        url = urllib.parse.urlsplit(to.endpoint)
        self._secure = url.scheme == "https"
        self._host = url.hostname or "localhost"
        self._port = url.port or (443 if self._secure else 80)
        self._path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        self._proxy = _proxy(url.scheme, self._host)
        if self._proxy and not self._secure:
            self._path = to.endpoint
        self._encode = _ENCODERS[to.compression]
        self._headers = {"user-agent": "llmspell-otel", **_authorization(url), **to.headers}
        self._headers["content-type"] = "application/x-protobuf"
        if to.compression:
            self._headers["content-encoding"] = to.compression
        self._tls: ssl.SSLContext | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the connection, as the child of a fork must: the parent goes on using it."""
        self._lock = Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._wire: _Wire | None = None
        self._aborted = False

    def send(self, body: bytes, deadline: float) -> Answer:
        """Post *body*; the answer comes before *deadline* (monotonic). Never raises."""
        encoded = self._encode(body)
        reused = self._connection is not None
        try:
            try:
                return self._post(encoded, deadline)
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
                # A connection kept alive may have been closed meanwhile: that is no failure.
                if not reused or self._aborted:
                    raise
                return self._post(encoded, deadline)
        except TimeoutError:
            self.close()
            return again("timeout", f"no answer from {self._to} in time")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return again("unreachable", f"{self._to}: {error}")
        except (ValueError, UnicodeError) as error:
            self.close()
            return refused("unusable_destination", f"{self._to}: {error}")

    def abort(self) -> None:
        """End an attempt under way, from another thread, and every later one."""
        self._aborted = True
        with self._lock:
            if self._wire is not None:
                self._wire.hang_up()

    def close(self) -> None:
        """Close the connection; the next attempt opens another."""
        with self._lock:
            connection, self._connection, self._wire = self._connection, None, None
        if connection is not None:
            connection.close()

    def _post(self, encoded: bytes, deadline: float) -> Answer:
        connection, wire = self._open(deadline)
        wire.deadline = deadline
        connection.request("POST", self._path, encoded, self._headers)
        response = connection.getresponse()
        if (response.length or 0) > _MOST:
            raise http.client.HTTPException(f"an answer of {response.length} bytes")
        body = response.read()  # whole, or IncompleteRead: half an answer is no answer
        if self._aborted:
            raise ConnectionAbortedError("shutting down")
        headers = {name.lower(): value for name, value in response.headers.items()}
        if response.will_close or not response.isclosed():
            self.close()
        return http_answer(response.status, headers, body)

    def _open(self, deadline: float) -> tuple[http.client.HTTPConnection, _Wire]:
        with self._lock:
            if self._connection is not None and self._wire is not None:
                return self._connection, self._wire
        connection = self._connect(max(deadline - time.monotonic(), 0.001))
        wire = _Wire(connection.sock)
        connection.sock = wire
        with self._lock:
            if self._aborted:
                connection.close()
                raise ConnectionAbortedError("shutting down")
            self._connection, self._wire = connection, wire
        return connection, wire

    def _connect(self, timeout: float) -> Any:
        host, port = self._proxy or (self._host, self._port)
        connection: http.client.HTTPConnection
        if self._secure:
            self._tls = self._tls or _tls(self._to)
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
            if self._proxy:
                connection.set_tunnel(self._host, self._port)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.connect()
        return connection


def _authorization(url: urllib.parse.SplitResult) -> dict[str, str]:
    """What a URL like `https://user:password@host` says about its user."""
    if url.username is None:
        return {}
    user, password = urllib.parse.unquote(url.username), urllib.parse.unquote(url.password or "")
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {credentials}"}


def _tls(to: Destination) -> ssl.SSLContext:
    bundle = to.certificate or os.environ.get("REQUESTS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=bundle)
    if bundle is None:
        with suppress(ImportError, OSError):  # slim containers have no certificates of their own
            import certifi

            context.load_verify_locations(certifi.where())
    if to.client_certificate:
        context.load_cert_chain(to.client_certificate, to.client_key)
    return context


def _proxy(scheme: str, host: str) -> tuple[str, int] | None:
    """The proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` ask for."""
    if urllib.request.proxy_bypass(host):
        return None
    url = urllib.parse.urlsplit(urllib.request.getproxies().get(scheme, ""))
    return (url.hostname, url.port or 80) if url.hostname else None
