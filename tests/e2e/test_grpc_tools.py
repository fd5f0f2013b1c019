"""grpcurl, through Envoy's port: what is listed, described and called without any files."""

import json
import subprocess
from typing import Any

import pytest

from services.cli.doctor import where
from tests.e2e.conftest import COMMAND_LIMIT_S, Mesh

pytestmark = pytest.mark.e2e

SERVICES = {
    "grpc.health.v1.Health",
    "weft.embedder.v1.EmbedderService",
    "weft.openai.v1.OpenAIService",
    "weft.retriever.v1.RetrieverService",
    "weft.router.v1.RouterService",
    "weft.worker.v1.WorkerService",
}


def grpcurl(*arguments: str, data: Any = None) -> subprocess.CompletedProcess[str]:
    program = where("grpcurl")
    if program is None:
        pytest.skip("grpcurl is not installed: `make tools` builds it")
    flags = ["-plaintext"] + (["-d", json.dumps(data)] if data is not None else [])
    command = [program, *flags, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)


def test_every_service_is_listed(mesh: Mesh) -> None:
    assert set(grpcurl(mesh.target, "list").stdout.split()) >= SERVICES


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_can_be_described(mesh: Mesh, service: str) -> None:
    ran = grpcurl(mesh.target, "describe", service)
    assert ran.returncode == 0, ran.stderr
    assert f"{service} is a service:" in ran.stdout


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        pytest.param("grpc.health.v1.Health/Check", {}, '"SERVING"', id="health"),
        pytest.param("weft.router.v1.RouterService/ListModels", {}, '"reader"', id="router"),
        pytest.param(
            "weft.router.v1.RouterService/StreamChat", {"messages": [{"content": "Hello"}]}, '"finished"', id="chat"
        ),
        pytest.param(
            "weft.router.v1.RouterService/ExplainPick",
            {"chat": {"messages": [{"content": "Hello"}]}},
            '"worker-',
            id="explain",
        ),
        pytest.param("weft.embedder.v1.EmbedderService/Embed", {"texts": ["Hello"]}, '"values"', id="embedder"),
        pytest.param("weft.retriever.v1.RetrieverService/ListIndexes", {}, "{", id="retriever"),
        pytest.param("weft.worker.v1.WorkerService/Generate", {"prompt": {"text": "Hello"}}, '"finish"', id="worker"),
    ],
)
def test_every_service_can_be_called(mesh: Mesh, method: str, data: Any, expected: str) -> None:
    ran = grpcurl(mesh.target, method, data=data)
    assert ran.returncode == 0, ran.stderr
    assert expected in ran.stdout


def test_a_wrong_request_names_its_field(mesh: Mesh) -> None:
    ran = grpcurl(mesh.target, "weft.router.v1.RouterService/StreamChat", data={"messages": []})
    assert "InvalidArgument" in ran.stderr
    assert "BadRequest" in ran.stderr
