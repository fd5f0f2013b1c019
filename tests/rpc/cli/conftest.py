"""A real Envoy in front of a stand-in mesh."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import tenacity

from services.cli.assets import asset
from services.cli.doctor import where
from services.cli.envoy_config import render
from services.cli.plan import plan
from services.cli.ports import FreePorts
from services.cli.probe import answers_ok
from services.kit.settings import load_settings
from tests.rpc.cli.fake_mesh import FakeMesh


@dataclass(frozen=True)
class Front:
    """Envoy's address, and the mesh behind it."""

    target: str
    mesh: FakeMesh

    @property
    def url(self) -> str:
        return f"http://{self.target}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    """Starts both once for each test file."""
    folder: Path = tmp_path_factory.mktemp("front")
    (folder / "run").mkdir()
    mesh = FakeMesh()
    await mesh.start()
    everything = {"port": mesh.port, "admin_port": mesh.admin_port}
    with FreePorts().lend() as free:
        settings = load_settings(
            data_dir=folder,
            envoy={"port": 0, "admin_port": 0},
            router=everything | {"lane": False},
            retriever=everything,
            # Nobody listens here: what Envoy says then is tested as well.
            embedder={"port": 0, "admin_port": 0},
        )
        planned = plan(settings, 1, free.take, (str(where("envoy")),))
    config = render(asset("envoy.yaml").read_text(), planned, asset("weft.binpb"))
    planned.envoy_file.write_text(config)
    (process,) = (process for process in planned.processes if process.name == "envoy")
    envoy = await asyncio.create_subprocess_exec(*process.command, stderr=sys.stderr)
    try:
        until_up = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda up: not up),
            wait=tenacity.wait_fixed(0.02),
            stop=tenacity.stop_after_delay(20),
        )
        await until_up(answers_ok, planned.target, "/healthz")
        yield Front(planned.target, mesh)
    finally:
        envoy.terminate()
        await envoy.wait()
        await mesh.stop()
