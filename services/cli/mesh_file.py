"""`run/mesh.json` in the data folder: what runs there now, for `weft doctor` and for scripts."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from services.cli.plan import Mesh, reach
from services.cli.view import State, View


def path_in(data_dir: Path) -> Path:
    """Where the file is while a mesh runs; it is removed when the mesh stops."""
    return data_dir / "run" / "mesh.json"


def urls(mesh: Mesh) -> dict[str, str]:
    """The addresses that people use."""
    base = f"http://{mesh.target}"
    return {"http": base, "grpc": mesh.target, "openai": f"{base}/v1", "metrics": f"{base}/metrics"}


class MeshFile:
    """Owns the file of one running mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._path = path_in(mesh.settings.data_dir)
        self._admin_ports = {process.name: process.ports[1].number for process in mesh.processes}
        router = mesh.settings.router
        self._lane = reach(router.host, router.lane_port) if router.lane else ""
        self._views: dict[str, View] = {}

    def __repr__(self) -> str:
        return f"MeshFile({self._path})"

    def changed(self, view: View) -> None:
        """Takes one process's new view; writes when it got ready or ended."""
        self._views[view.name] = view
        if view.state in (State.READY, State.RESTARTING):
            self._write()

    def remove(self) -> None:
        """Removes the file, where it is there."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Readers see the old content or the new one, never a part."""
        content = {
            "pid": os.getpid(),
            "target": self._mesh.target,
            "urls": urls(self._mesh),
            "lane": self._lane,
            "processes": {name: self._entry(view) for name, view in sorted(self._views.items())},
        }
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(content, indent=2) + "\n")
        fresh.replace(self._path)

    def _entry(self, view: View) -> dict[str, Any]:
        return {
            "pid": view.pid,
            "address": view.address,
            "admin_port": self._admin_ports[view.name],
            "state": view.state.value,
            "restarts": view.restarts,
        }


def read(data_dir: Path) -> Mapping[str, Any] | None:
    """The content, or nothing where no mesh runs on that folder. One that was killed may have left its file."""
    try:
        found: dict[str, Any] = json.loads(path_in(data_dir).read_text())
    except (OSError, ValueError):
        return None
    return found if psutil.pid_exists(found["pid"]) else None
