"""`OTEL_CONFIG_FILE`: the SDK's configuration file, with our exporters in it."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.kit.otlp import OtlpReceiver

PAGE = Path(__file__).parents[2] / "docs/reference/exporters.md"
PROGRAM = """
    import sys
    from opentelemetry import metrics, trace
    with trace.get_tracer("trial").start_as_current_span("hello"):
        metrics.get_meter("trial").create_counter("greetings").add(1)
    print("goes on")
"""


def ran(folder: Path, text: str | None, **environment: str) -> tuple[str, str]:
    """Run a program with a configuration file of that *text*; its stdout and stderr."""
    path, program = folder / "otel.yaml", folder / "program.py"
    if text is not None:
        path.write_text(text)
    program.write_text(textwrap.dedent(PROGRAM))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-m", "llmspell_otel.cli", "run", str(program)],
        env=clean | {"OTEL_CONFIG_FILE": str(path)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout, done.stderr


def doctor(folder: Path) -> tuple[int, str]:
    """What the doctor answers and says of the file."""
    done = subprocess.run(
        [sys.executable, "-m", "llmspell_otel.cli", "doctor"],
        env=os.environ | {"OTEL_CONFIG_FILE": str(folder / "otel.yaml")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout.partition("telemetry\n")[2].partition("delivery")[0]


def test_the_file_on_the_page_sends_everything_with_exact_books(tmp_path: Path) -> None:
    """All signals go where it says, by our exporters, under the name it gives."""
    found = re.search(r"```yaml\n(file_format.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    with OtlpReceiver(grpc=False) as receiver:
        said = ran(tmp_path, found[1], COLLECTOR=receiver.http_endpoint)
        assert said == ("goes on\n", "")
        span = receiver.span("hello")
        assert span.resource["service.name"] == "support-desk"
        assert {export.headers["user-agent"] for export in receiver.exports} == {"llmspell-otel"}
        assert {export.signal for export in receiver.exports} >= {"traces", "metrics"}
    assert doctor(tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "otel.yaml"),
        ("file_format: [", "otel.yaml"),
        ('file_format: "1.0"\ntracer_provider: {processors: [{batch: {}}]}', "exporter"),
        (
            """
            file_format: "1.0"
            tracer_provider: {processors: [{batch: {exporter: {no_such_exporter: {}}}}]}
            """,
            "no_such_exporter",
        ),
    ],
    ids=["missing", "no YAML", "no exporter", "unknown exporter"],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    """The program goes on; what is wrong is said once, with the file's name."""
    out, err = ran(tmp_path, text, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="*")
    assert out == "goes on\n"
    (line,) = err.splitlines()
    assert f"OTEL_CONFIG_FILE={tmp_path / 'otel.yaml'} is not used" in line
    assert complaint in line


def test_the_doctor_reads_the_file(tmp_path: Path) -> None:
    """What the schema does not allow is said before anything is run."""
    (tmp_path / "otel.yaml").write_text("tracer_provider: {processors: [{batch: {}}]}")
    status, said = doctor(tmp_path)
    assert status == 1
    assert f"OTEL_CONFIG_FILE={tmp_path / 'otel.yaml'} is not used: " in said


def test_the_doctor_tells_the_official_exporters_from_ours(tmp_path: Path) -> None:
    """In the file, `otlp_http` is not what it is in a variable; that is said, and no mistake."""
    (tmp_path / "otel.yaml").write_text("""
        file_format: "1.0"
        tracer_provider: {processors: [{batch: {exporter: {otlp_http: {}}}}]}
        logger_provider: {processors: [{batch: {exporter: {llmspell_otlp: {}}}}]}
    """)
    status, said = doctor(tmp_path)
    assert status == 0, said
    assert said.count("official") == 1
    assert "-- tracer_provider: otlp_http is the official exporter there" in said
    assert "ours is llmspell_otlp" in said


def test_without_its_package_the_line_says_what_to_install(tmp_path: Path) -> None:
    """The SDK reads such files only with another package."""
    program = textwrap.dedent("""
        import sys
        sys.modules["opentelemetry.configuration"] = None
        from llmspell_exporters.distro import set_up
        set_up()
        print("goes on")
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"OTEL_CONFIG_FILE": str(tmp_path / "otel.yaml")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "goes on\n"
    (line,) = done.stderr.splitlines()
    assert "pip install opentelemetry-configuration" in line
