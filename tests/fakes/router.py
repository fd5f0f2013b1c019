"""A router as a worker sees it when it announces itself: it counts the announcements and says when to repeat them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

from services.kit.errors import seconds_to_duration
from weft.router.v1 import router_pb2, router_pb2_grpc


class FakeRouter(router_pb2_grpc.RouterServiceServicer):
    """Remembers the last announcement and how many there were."""

    def __init__(self, repeat_after_s: float = 0.05) -> None:
        self.repeat_after_s = repeat_after_s
        self.announced: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    async def RegisterWorker(  # type: ignore[override]  # the stubs do not know asynchronous handlers of one answer
        self, request: router_pb2.RegisterWorkerRequest, context: object
    ) -> router_pb2.RegisterWorkerResponse:
        self.announced.append((request.worker_id, request.address))
        self._changed.set()
        return router_pb2.RegisterWorkerResponse(
            repeat_after=seconds_to_duration(self.repeat_after_s), router_id="fake"
        )

    async def heard(self, count: int = 1) -> tuple[str, str]:
        """Waits for so many announcements; the last one's worker id and address."""
        while len(self.announced) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.announced[-1]


@asynccontextmanager
async def serve_router(router: FakeRouter, port: int = 0) -> AsyncIterator[int]:
    """Serves it on loopback; yields the port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    router_pb2_grpc.add_RouterServiceServicer_to_server(router, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)
