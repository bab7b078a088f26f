"""The shared tier: sidecar with a token, TLS, Kafka, and back out to Jaeger."""

import datetime as dt
import ipaddress
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.build import path_of
from tests.deploy import servers
from tests.deploy.sending import Sender, arrived, stored
from tests.deploy.servers import Server

pytestmark = pytest.mark.timeout(180)
TOKEN = "a-token-of-this-test"


def certificate(folder: Path) -> dict[str, str]:
    """A certificate for loopback that signs itself, and the settings that name its files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tls.crt").write_bytes(signed.public_bytes(pem))
    (folder / "tls.key").write_bytes(key.private_bytes(pem, *plain))
    (folder / "token").write_text(TOKEN)
    return {
        "LLMSPELL_TLS_CERT": str(folder / "tls.crt"),
        "LLMSPELL_TLS_KEY": str(folder / "tls.key"),
        "LLMSPELL_TOKEN_FILE": str(folder / "token"),
    }


@dataclass
class Tier:
    """The whole tier, running."""

    egress: Server
    ingest: int
    sidecar: int
    query: int
    authority: str


@pytest.fixture
def tier(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tier]:
    """Sidecar → ingest → Kafka → egress → Jaeger, as shipped, with TLS and a token."""
    files = certificate(tmp_path)
    (port,) = servers.free_ports(1)
    kafka = {"LLMSPELL_KAFKA": f"127.0.0.1:{port}", "LLMSPELL_KAFKA_INSECURE": "true"}
    gateway = "otelcol-llmspell-gateway"
    jaeger, seen = servers.jaeger(tmp_path / "jaeger")
    egress, _ = servers.collector(
        tmp_path / "egress",
        "gateway-egress.yaml",
        *getattr(request, "param", ()),
        binary=gateway,
        LLMSPELL_DECISION_WAIT="3s",
        LLMSPELL_JAEGER=f"127.0.0.1:{seen['OTLP']}",
        LLMSPELL_JAEGER_INSECURE="true",
        **kafka,
    )
    ingest, open_to = servers.collector(
        tmp_path / "ingest",
        "gateway-ingest.yaml",
        binary=gateway,
        LLMSPELL_LISTEN="127.0.0.1",
        **files,
        **kafka,
    )
    sidecar, beside = servers.collector(
        tmp_path / "sidecar",
        "sidecar.yaml",
        "overlays/token.yaml",
        LLMSPELL_UPSTREAM=f"127.0.0.1:{open_to['OTLP_GRPC']}",
        LLMSPELL_UPSTREAM_CA=files["LLMSPELL_TLS_CERT"],
        LLMSPELL_UPSTREAM_TOKEN_FILE=files["LLMSPELL_TOKEN_FILE"],
    )
    with subprocess.Popen([path_of("kafka-trial"), "-port", str(port)]) as broker:
        try:
            with servers.started(sidecar, ingest, egress, jaeger):
                yield Tier(
                    egress,
                    open_to["OTLP_GRPC"],
                    beside["OTLP_GRPC"],
                    seen["QUERY"],
                    files["LLMSPELL_TLS_CERT"],
                )
        finally:
            broker.kill()


def test_spans_cross_the_tier_exactly(tier: Tier) -> None:
    """Every span arrives; one that is sent while the back of the tier is dead waits in Kafka."""
    sender = Sender(tier.sidecar, "fleet")
    for _ in range(5):
        assert sender.send(sender.batch())
    assert arrived(tier.query, sender) == sender.acknowledged
    tier.egress.kill()
    for _ in range(5):
        assert sender.send(sender.batch())
    sender.close()
    tier.egress.start()
    assert arrived(tier.query, sender) == sender.acknowledged
    assert len(sender.acknowledged) == 500


def test_nobody_enters_without_the_token(tier: Tier) -> None:
    """With the right authority but no token, and with a wrong one, nothing is taken."""
    from grpc import ssl_channel_credentials
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    credentials = ssl_channel_credentials(Path(tier.authority).read_bytes())
    for headers, welcome in (
        ({}, False),
        ({"authorization": "Bearer of-another"}, False),
        ({"authorization": f"Bearer {TOKEN}"}, True),
    ):
        sender = Sender(tier.ingest, "stranger")
        sender.close()
        sender._exporter = OTLPSpanExporter(
            f"https://127.0.0.1:{tier.ingest}",
            credentials=credentials,
            headers=headers,
            timeout=5,
        )
        assert sender.send(sender.batch(5)) is welcome
        sender.close()
    assert len(arrived(tier.query, sender)) == len(stored(tier.query, "stranger")) == 5


@pytest.mark.parametrize("tier", [("overlays/tail_sampling.yaml",)], indirect=True)
def test_what_is_worth_a_look_is_kept(tier: Tier) -> None:
    """Sampled: every failed, dear and steered trace is kept, and of the dull ones about a tenth."""
    notable, dull = Sender(tier.sidecar, "notable"), Sender(tier.sidecar, "dull")
    for attributes in (
        {"llmspell__hook__result": "cancel"},
        {"llmspell__hook__result": "retry"},
        {"llmspell__cost__total": 0.75},
    ):
        assert notable.send(notable.batch(10, **attributes))
    assert notable.send(notable.batch(10, failed=True))
    for _ in range(100):
        assert dull.send(dull.batch(2, llmspell__cost__total=0.01, llmspell__hook__result="cache"))
    assert arrived(tier.query, notable) == notable.acknowledged
    kept = servers.eventually(lambda: stored(tier.query, "dull"), 20)
    # Of 100 traces with a chance of one in ten: more than 30 happens once in ten thousand million.
    assert 0 < len(kept) / 2 <= 30
