"""The model server: the application on an ephemeral loopback port, in a thread of its own."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

from llmspell_otel.testing.request import ModelRequest
from llmspell_otel.testing.script import Reply, Script

if TYPE_CHECKING:
    import uvicorn

    from llmspell_otel.testing.app import ModelApp

_START_TIMEOUT = 10.0


class ModelServer:
    """Serves a script in OpenAI's wire formats over HTTP.

    ```python
    with ModelServer([Reply.tools(("add", {"a": 1, "b": 2})), Reply.text("3")]) as server:
        client = OpenAI(base_url=server.base_url, api_key="any")
        ...
        assert server.requests[1].tool_results[0].output == "3"
    ```

    Args:
        script: replies in order, rules, or a function from request to reply.
        host: the address to listen on.
        port: the port; 0 takes a free one.

    Raises:
        ImportError: on start, when starlette or uvicorn is not installed.
        OSError: on start, when the port is taken.
    """

    def __init__(self, script: Script = (), *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        self._address = (host, port)
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; returns when requests are answered."""
        self._running = _Running(self._script, self._address)
        self._running.start()

    def stop(self) -> None:
        """End every stream and connection, and wait for the thread; safe to call twice."""
        if self._running is not None:
            self._running.stop()

    @property
    def base_url(self) -> str:
        """What to give to a client as `base_url`, or to a process as `OPENAI_BASE_URL`."""
        host, port = self._started.address
        return f"http://{host}:{port}/v1"

    @property
    def environment(self) -> Mapping[str, str]:
        """The provider's own variables that point a process at this server."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": "sk-scripted"}

    @property
    def requests(self) -> tuple[ModelRequest, ...]:
        """Every well-formed request so far, in order of arrival."""
        return tuple(self._started.app.requests)

    @property
    def left_early(self) -> tuple[ModelRequest, ...]:
        """The requests whose client went away (or that a stop cut off) before the end."""
        return tuple(self._started.app.left_early)

    @property
    def unused(self) -> tuple[Reply, ...]:
        """The replies in order that no request has had yet."""
        return self._started.app.prompter.unused

    def wait_until(self, condition: Callable[[Self], bool], *, timeout: float = 5.0) -> None:
        """Wait until *condition* holds of this server.

        Raises:
            TimeoutError: after *timeout* seconds.
        """
        deadline = time.monotonic() + timeout
        while not condition(self):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so after {timeout} s; {len(self.requests)} requests came")
            time.sleep(0.005)

    @property
    def _started(self) -> "_Running":
        if self._running is None:
            raise RuntimeError("the model server has not been started: use it in a with statement")
        return self._running


class _Running:
    """One life of a server, from start to stop."""

    def __init__(self, script: Script, address: tuple[str, int]) -> None:
        self._listener = socket.create_server(address, backlog=128)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        try:
            self.app, self._server = _build(script)
        except BaseException:
            self._listener.close()
            raise
        self._ready = Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._run, name="llmspell-model-server", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT):
            raise TimeoutError(f"the model server did not start within {_START_TIMEOUT} s")

    def stop(self) -> None:
        if self._loop is not None and self._thread.is_alive():
            self._server.should_exit = True
            self._loop.call_soon_threadsafe(self.app.stop)
        self._thread.join()

    def _run(self) -> None:
        with self._listener:
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._ready.set)
        await self._server.serve(sockets=[self._listener])


def _build(script: Script) -> tuple["ModelApp", "uvicorn.Server"]:
    try:
        import uvicorn

        from llmspell_otel.testing.app import ModelApp
    except ImportError as error:
        raise ImportError(
            "the model server needs starlette and uvicorn: pip install 'llmspell-otel[testing]'"
        ) from error
    app = ModelApp(script)
    settings: dict[str, Any] = {
        "lifespan": "off",
        "loop": "asyncio",
        "http": "h11",
        "ws": "none",
        "log_config": None,
        # A stream that a script breaks off is not worth an error in the tested program's log.
        "log_level": "critical",
        "access_log": False,
        "timeout_graceful_shutdown": 1,
        # Longer than a client keeps an idle connection, so that it never finds one just closed.
        "timeout_keep_alive": 60,
    }
    return app, uvicorn.Server(uvicorn.Config(app, **settings))
