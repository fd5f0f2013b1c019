"""A real Envoy in front of a mesh, and a web caller that reads its server-sent events from a bare socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from google.protobuf import json_format

from services.cli.assets import asset
from services.cli.doctor import where
from services.cli.envoy_config import render
from services.cli.plan import plan
from services.cli.ports import FreePorts
from services.cli.probe import answers_ok
from services.kit.settings import load_settings
from tests.chaos.client import Heard, request
from tests.chaos.mesh import LIVE_LIMIT_S, Mesh
from weft.router.v1 import router_pb2


@asynccontextmanager
async def envoy(found: Mesh, folder: Path) -> AsyncIterator[int]:
    """Envoy's port; it knows the router alone."""
    (folder / "run").mkdir()
    router = {"port": found.port, "lane_port": found.lane_port, "admin_port": found.admin_port}
    nobody = {"port": 0, "admin_port": 0}
    with FreePorts().lend() as free:
        settings = load_settings(data_dir=folder, envoy=nobody, router=router, retriever=nobody, embedder=nobody)
        planned = plan(settings, 1, free.take, (str(where("envoy")),))
    planned.envoy_file.write_text(render(asset("envoy.yaml").read_text(), planned, asset("weft.binpb")))
    (wanted,) = (process for process in planned.processes if process.name == "envoy")
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*wanted.command, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(LIVE_LIMIT_S):
            while not await answers_ok(planned.target, "/healthz"):
                await asyncio.sleep(0.02)
        yield planned.settings.envoy.port
    finally:
        process.kill()
        await process.wait()


async def post(port: int, heard: Heard, tokens: int) -> Heard:
    """One greedy answer over POST /v1/chat to its end; a broken stream is one without an end."""
    return await send(port, heard, json_format.MessageToJson(request(heard.prompt, tokens)).encode())


async def send(port: int, heard: Heard, body: bytes) -> Heard:
    """The same for any body."""
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + b"\r\n\r\n" + body)
        status = await reader.readline()
        assert b" 200 " in status, status
        while line := await reader.readline():
            if line.startswith(b"data: "):
                heard.take(json_format.ParseDict(json.loads(line[6:]), router_pb2.StreamChatResponse()))
            if heard.finished or heard.failed:
                break
    finally:
        writer.close()
        heard.begun.set()
        heard.went_on.set()
    return heard
