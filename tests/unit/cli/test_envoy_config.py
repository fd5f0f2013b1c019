"""Envoy's configuration: as it is committed, and as `weft up` renders it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.assets import asset
from services.cli.doctor import where
from services.cli.envoy_config import render
from services.cli.plan import Mesh, plan
from services.cli.ports import FreePorts
from services.kit.settings import load_settings
from tests.conftest import ROOT


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    with FreePorts().lend() as free:
        settings = load_settings(
            data_dir=tmp_path,
            envoy={"port": 0, "admin_port": 0, "host": "0.0.0.0", "body_limit_bytes": 2048},
            router={"host": "router.example", "port": 7001, "admin_port": 7002},
        )
        return plan(settings, 3, free.take, ("envoy",))


def rendered(mesh: Mesh) -> Any:
    return yaml.safe_load(render(asset("envoy.yaml").read_text(), mesh, asset("weft.binpb")))


def validate(path: Path, folder: Path) -> None:
    envoy = where("envoy")
    assert envoy, "envoy is missing from this environment"
    command = [envoy, "--mode", "validate", "--config-path", str(path), "--disable-hot-restart"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


def endpoints(config: Any, cluster: str) -> list[tuple[str, int]]:
    (found,) = (c for c in config["static_resources"]["clusters"] if c["name"] == cluster)
    addresses = [
        e["endpoint"]["address"]["socket_address"] for e in found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    return [(address["address"], address["port_value"]) for address in addresses]


def test_the_committed_file_is_valid_from_the_root_of_the_repository() -> None:
    validate(Path("envoy/envoy.yaml"), ROOT)


def test_a_rendered_file_is_valid_from_anywhere(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(render(asset("envoy.yaml").read_text(), mesh, asset("weft.binpb")))
    validate(path, tmp_path)


def test_each_cluster_has_its_own_endpoints(mesh: Mesh) -> None:
    config = rendered(mesh)
    assert endpoints(config, "router") == [("router.example", 7001)]
    assert endpoints(config, "router_admin") == [("router.example", 7002)]
    assert [f"{host}:{port}" for host, port in endpoints(config, "workers")] == list(mesh.workers)
    assert len(mesh.workers) == 3


def test_the_admin_port_is_on_loopback_alone(mesh: Mesh) -> None:
    config = rendered(mesh)
    assert config["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    assert config["static_resources"]["listeners"][0]["address"]["socket_address"]["address"] == "0.0.0.0"


def test_body_limits_come_from_the_settings(mesh: Mesh) -> None:
    text = render(asset("envoy.yaml").read_text(), mesh, asset("weft.binpb"))
    assert "max_request_body_size: 2048" in text
    assert "max_response_body_size: 2048" in text


def test_no_route_retries_but_that_of_embeddings(mesh: Mesh) -> None:
    config = yaml.safe_load(render(asset("envoy.yaml").read_text(), mesh, asset("weft.binpb")))
    (filters,) = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    (host,) = filters["typed_config"]["route_config"]["virtual_hosts"]
    retried = [one["match"]["path"] for one in host["routes"] if "retry_policy" in one.get("route", {})]
    assert retried == ["/weft.openai.v1.OpenAIService/CreateEmbedding"]
