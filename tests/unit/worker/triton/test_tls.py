"""Triton behind TLS with certificates on both sides, as fleets run it."""

import subprocess
from pathlib import Path

import pytest

from services.worker.engines.triton.failures import TritonError
from services.worker.ports import Rendered, Sampling
from tests.fakes.triton.server import TritonServer
from tests.unit.worker.resume import run
from tests.unit.worker.triton.conftest import opened


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """One for 127.0.0.1 that signs itself, and its key."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=triton"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def test_certificates_on_both_sides(own_triton: TritonServer, certificate: tuple[Path, Path]) -> None:
    file, key = certificate
    own_triton.start(
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={file}",
        f"--grpc-server-key={key}",
        f"--grpc-root-cert={file}",
    )
    own_triton.wait_ready()
    async with opened(own_triton, tls=True, ca_file=file, cert_file=file, key_file=key) as (engine, sink):
        got = await run(engine, sink, Rendered("hi there"), Sampling(temperature=0.0, max_tokens=5))
    assert got.finish.completion_tokens == 5
    for settings in ({}, {"tls": True}, {"tls": True, "ca_file": file}):
        with pytest.raises(TritonError, match="cannot be reached"):
            async with opened(own_triton, ready_timeout_s=0.0, **settings):
                pass
