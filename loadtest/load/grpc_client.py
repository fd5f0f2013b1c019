"""StreamChat for very many answers on few connections.

grpc's own client costs several times what the mesh does for a token; one that is to load a mesh has to cost less.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from loadtest.load.client import Done, Target
from loadtest.load.grpc_connection import Connection
from loadtest.load.record import Record

CONNECT_LIMIT_S = 10.0
CONNECTIONS_LIMIT = 256


class GrpcClient:
    """Answers over as many connections as it takes. A request for which none has room waits for the next one."""

    def __init__(self, target: Target, now: Callable[[], float], connections: int = 2) -> None:
        self._target = target
        self._now = now
        self._wanted = connections
        self._connections: list[Connection] = []
        self._opening: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[Record, Done]] = deque()
        self._tls = _tls(target)
        self._turn = 0

    def __repr__(self) -> str:
        return f"GrpcClient({self._target.authority} connections={len(self._connections)} waiting={len(self._waiting)})"

    async def open(self) -> None:
        for _ in range(self._wanted):
            await self._connect()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._target.host, self._target.port
        async with asyncio.timeout(CONNECT_LIMIT_S):
            transport, connection = await loop.create_connection(
                lambda: Connection(self._target, self._now),
                host,
                port,
                ssl=self._tls,
                server_hostname=host if self._tls else None,
            )
            try:
                await connection.ready
            except BaseException:
                transport.abort()
                raise
        self._connections.append(connection)

    def send(self, record: Record, done: Done) -> None:
        if self._waiting or not self._place(record, done):
            self._waiting.append((record, done))
            if self._opening is None or self._opening.done():
                self._opening = asyncio.get_running_loop().create_task(self._make_room())

    def _place(self, record: Record, done: Done) -> bool:
        """Sends it over the next connection with room, if there is one."""
        connections = self._connections
        for _ in range(len(connections)):
            self._turn = (self._turn + 1) % len(connections)
            if connections[self._turn].has_room:
                record.sent_s = self._now()
                connections[self._turn].send(record, done)
                return True
        return False

    async def _make_room(self) -> None:
        """Opens connections until nobody waits. Those who wait for one that cannot be opened end with NO_CONNECTION."""
        while self._waiting:
            self._connections = [one for one in self._connections if one.streams or not one.over]
            try:
                if len(self._connections) >= CONNECTIONS_LIMIT:
                    raise OSError(f"{CONNECTIONS_LIMIT} connections are open, and all are full")
                await self._connect()
            except OSError as error:
                waiting, self._waiting = self._waiting, deque()
                for record, done in waiting:
                    record.sent_s = record.ended_s = self._now()
                    record.code, record.detail = "NO_CONNECTION", str(error) or type(error).__name__
                    done(record)
            while self._waiting and self._place(*self._waiting[0]):
                self._waiting.popleft()

    def cancel(self, record: Record) -> None:
        for connection in self._connections:
            if connection.cancel(record):
                return
        self._waiting = deque(pair for pair in self._waiting if pair[0] is not record)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        for connection in self._connections:
            if connection.transport is not None:
                connection.transport.close()


def _tls(target: Target) -> ssl.SSLContext | None:
    if not target.tls and not target.ca_file:
        return None
    context = ssl.create_default_context(cafile=target.ca_file or None)
    context.set_alpn_protocols(["h2"])
    return context
