"""Renders Envoy's configuration: the commented envoy.yaml with the addresses, limits and paths of the settings."""

import json
from pathlib import Path
from typing import Any

import yaml

from services.cli.plan import Mesh, reach

_TRANSCODER = "envoy.filters.http.grpc_json_transcoder"


def render(template: str, mesh: Mesh, descriptors: Path) -> str:
    """The template's YAML for this mesh, without its comments. KeyError names a part that the template lacks."""
    # Aliases of the template become parts of their own, so that changing one leaves the others.
    config = json.loads(json.dumps(yaml.safe_load(template)))
    settings = mesh.settings
    _set_address(config["admin"]["address"], "127.0.0.1", settings.envoy.admin_port)
    (listener,) = config["static_resources"]["listeners"]
    _set_address(listener["address"], settings.envoy.host, settings.envoy.port)
    transcoder = _filters(listener)[_TRANSCODER]
    transcoder["proto_descriptor"] = str(descriptors.absolute())
    transcoder["max_request_body_size"] = settings.envoy.body_limit_bytes
    transcoder["max_response_body_size"] = settings.envoy.body_limit_bytes
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    for name, addresses in _endpoints(mesh).items():
        clusters[name]["load_assignment"]["endpoints"] = [{"lb_endpoints": [_endpoint(a) for a in addresses]}]
    return yaml.safe_dump(config, sort_keys=False, width=160)


def _endpoints(mesh: Mesh) -> dict[str, tuple[str, ...]]:
    settings = mesh.settings
    router = settings.router
    return {
        "router": (reach(settings.router.host, settings.router.port),),
        "router_lane": (reach(router.host, router.lane_port if router.lane else router.port),),
        "router_admin": (reach(settings.router.host, settings.router.admin_port),),
        "retriever": (reach(settings.retriever.host, settings.retriever.port),),
        "embedder": mesh.embedders,
        "workers": mesh.workers,
    }


def _endpoint(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    found: dict[str, Any] = {"endpoint": {"address": {"socket_address": {}}}}
    _set_address(found["endpoint"]["address"], host.strip("[]"), int(port))
    return found


def _set_address(address: dict[str, Any], host: str, port: int) -> None:
    address["socket_address"] = {"address": host, "port_value": port}


def _filters(listener: dict[str, Any]) -> dict[str, Any]:
    """The listener's HTTP filters by name."""
    (chain,) = listener["filter_chains"]
    (connection_manager,) = chain["filters"]
    return {found["name"]: found["typed_config"] for found in connection_manager["typed_config"]["http_filters"]}
