"""How a script finds the reply to a request, and how a server lives."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from llmspell_otel.testing import ModelRequest, ModelServer, Reply, Rule


def ask(client: openai.OpenAI, text: str, model: str = "m", **options: object) -> str:
    """Ask in the responses format."""
    return client.responses.create(model=model, input=text, **options).output_text


def test_rules_come_before_the_order(serve) -> None:
    """The first rule that fits replies; what fits none gets the next reply in order."""
    _, client = serve(
        [
            Reply.text("first"),
            Rule(user="REFUND", reply=Reply.text("by user")),
            Rule(model="gpt-*", reply=[Reply.text("by model"), Reply.text("again")]),
            Reply.text("second"),
            Rule(user="once", reply=Reply.text("just once"), times=1),
        ]
    )
    assert ask(client, "hello") == "first"
    assert ask(client, "a refund, please", "gpt-4o") == "by user"
    assert [ask(client, "x", "gpt-4o") for _ in range(3)] == ["by model", "again", "again"]
    assert [ask(client, "once"), ask(client, "once")] == ["just once", "second"]


def test_rules_look_at_tools_and_results(serve) -> None:
    """Rules can ask which tools are offered and which tool has answered."""
    tool = {"type": "function", "name": "look_up", "parameters": {}, "strict": False}
    server, client = serve(
        [
            Rule(result_of="look_up", reply=Reply.text("found")),
            Rule(offers="look_up", has_result=False, reply=Reply.tools(("look_up", {}))),
            Rule(endpoint="chat", reply=Reply.text("chat")),
        ]
    )
    first = client.responses.create(model="m", input="x", tools=[tool])
    output = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "it"}
    later = ask(client, [output], tools=[tool], previous_response_id=first.id)
    assert later == "found"
    messages = [{"role": "user", "content": "x"}]
    said = client.chat.completions.create(model="m", messages=messages).choices[0].message.content
    assert said == "chat"
    assert [request.endpoint for request in server.requests] == ["responses", "responses", "chat"]


def test_a_function_can_be_the_script(serve) -> None:
    """A function sees the request and gives the reply."""

    def script(request: ModelRequest) -> Reply:
        return Reply.text(f"{request.model} heard {request.user}")

    _, client = serve(script)
    assert ask(client, "hello", "gpt-9") == "gpt-9 heard hello"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lambda request: {}["x"], "the script failed: KeyError: 'x'"),
        (lambda request: "text", "the script gave a str instead of a Reply"),
    ],
)
def test_a_function_that_fails_is_told_to_the_client(serve, script, message: str) -> None:
    """A mistake in a script reaches whoever asks, and is not retried."""
    server, client = serve(script, max_retries=2)
    with pytest.raises(openai.BadRequestError, match=message):
        ask(client, "x")
    assert len(server.requests) == 1


def test_a_script_of_something_else_is_refused() -> None:
    """What is neither a reply nor a rule is an error before the server starts."""
    with pytest.raises(TypeError, match="this one has a str: 'hello'"):
        ModelServer(["hello"]).start()
    with pytest.raises(ValueError, match="at least one reply"):
        Rule(reply=[])


def test_an_exhausted_script_says_so(serve) -> None:
    """Too many requests get an error that names the request and is not retried."""
    server, client = serve([Reply.text("only")], max_retries=2)
    ask(client, "a")
    with pytest.raises(openai.BadRequestError, match=r"no reply left.*'gpt-4o'.*'where\?'"):
        ask(client, "where?", "gpt-4o")
    assert len(server.requests) == 2


def test_two_runs_are_alike_to_the_byte() -> None:
    """The same script and the same requests give the same bytes."""
    body = {"model": "m", "input": "x", "stream": True}
    runs = []
    for _ in range(2):
        with (
            ModelServer([Reply.tools(("a", {"b": "ü"})), Reply.text("x y")]) as server,
            openai.OpenAI(base_url=server.base_url, api_key="k") as client,
        ):
            raw = client.responses.with_streaming_response
            texts = []
            for _ in range(2):
                with raw.create(**body) as response:
                    texts.append(b"".join(response.iter_bytes()))
            runs.append(texts)
    assert runs[0] == runs[1]
    assert b"\\u" not in runs[0][0]


def test_many_requests_at_once_get_one_reply_each(serve) -> None:
    """Concurrent requests share the script without loss or repetition."""
    server, client = serve([Reply.text(str(n)) for n in range(40)])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(client, "x"), range(40)))
    assert sorted(answers, key=int) == [str(n) for n in range(40)]
    assert server.unused == ()


def test_a_server_starts_quickly_and_leaves_nothing() -> None:
    """Starting takes less than 100 ms once imported; stopping frees the port and the thread."""
    ModelServer().__enter__().stop()
    threads = threading.active_count()
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        with ModelServer() as server:
            took.append(time.perf_counter() - begun)
            port = int(server.base_url.split(":")[2].split("/")[0])
    assert min(took) < 0.1
    server.stop()
    assert threading.active_count() == threads
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_server_that_is_not_started_says_so() -> None:
    """Asking for the address too early is answered with what to do."""
    with pytest.raises(RuntimeError, match="with statement"):
        _ = ModelServer().base_url


def test_a_taken_port_is_an_error() -> None:
    """A second server on the same port raises at once."""
    with ModelServer() as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="in use"):
            ModelServer(port=port).start()


def test_the_command_serves_a_script(tmp_path) -> None:
    """`python -m llmspell_otel.testing` prints the variables, serves, and ends on SIGTERM."""
    script = tmp_path / "desk.py"
    script.write_text(
        "from llmspell_otel.testing import Reply\nSCRIPT = [Reply.text('from file')]\n"
    )
    command = [sys.executable, "-m", "llmspell_otel.testing", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--script", f"{script}:SCRIPT"], stdout=subprocess.PIPE, text=True
    )
    with process:
        lines = [process.stdout.readline().removeprefix("export ").strip() for _ in range(2)]
        variables = dict(line.split("=", 1) for line in lines)
        with openai.OpenAI(
            base_url=variables["OPENAI_BASE_URL"], api_key=variables["OPENAI_API_KEY"]
        ) as client:
            assert ask(client, "x") == "from file"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize("target", ["nowhere.py:SCRIPT", "script.txt", "script.py:missing"])
def test_the_command_refuses_a_bad_script(target: str, tmp_path: Path) -> None:
    """A script that cannot be loaded is one clear error."""
    (tmp_path / "script.py").write_text("SCRIPT = []\n")
    command = [sys.executable, "-m", "llmspell_otel.testing", "--port", "0", "--script", target]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "give it as FILE.py:NAME" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_replies_are_json(serve) -> None:
    """`Reply.json` says what it is given, as JSON."""
    _, client = serve([Reply.json({"ä": [1, None]})])
    assert json.loads(ask(client, "x")) == {"ä": [1, None]}
