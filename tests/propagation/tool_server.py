"""A tool in a process of its own: serves one tool over HTTP, with a policy of its own."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from llmspell_otel import Hook, Modified, tool
from llmspell_otel.operations.operation import current
from llmspell_otel.propagation import received, trail

seen: dict[str, Any] = {}


@Hook.on("tool:before_execution", name="clamp")
def clamp(context: Any) -> Modified:
    """Note what is known of the caller, and change the call."""
    seen["correlation_id"] = context.correlation_id
    seen["trail"] = [[each.hook, each.point, each.result] for each in trail(context)]
    return Modified({"input": {"n": 10}})


@tool
def double(n: int) -> int:
    """Twice *n*."""
    operation = current.get()
    assert operation is not None
    seen["parent_span_id"] = f"{operation.parent_span_id:016x}"
    return n * 2


class Handler(BaseHTTPRequestHandler):
    """One request, one call of the tool."""

    def do_POST(self) -> None:
        with received(dict(self.headers.items())) as caller:
            output = double(int(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            for name, value in caller.reply({}).items():
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps({"output": output, "hops": caller.hops, **seen}).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
