"""Streamed answers over HTTP/1.1, a connection for each that is under way, kept for the next one."""

import asyncio
import ssl
from collections.abc import Callable

from loadtest.load.client import Done, Target
from loadtest.load.record import Record
from loadtest.load.sse_connection import Connection
from loadtest.load.sse_dialect import Dialect

CONNECT_LIMIT_S = 10.0


class SseClient:
    """A connection for each answer under way, kept for the next one."""

    def __init__(self, target: Target, dialect: Dialect, now: Callable[[], float], limit: int = 10_000) -> None:
        self._target = target
        self._dialect = dialect
        self._now = now
        self._limit = limit
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False
        self._tls = ssl.create_default_context(cafile=target.ca_file or None) if target.tls or target.ca_file else None

    def __repr__(self) -> str:
        return f"SseClient({self._target.authority} connections={len(self._all)} idle={len(self._idle)})"

    async def open(self) -> None:
        self._idle.append(await self._connect())

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        host, port = self._target.host, self._target.port
        async with asyncio.timeout(CONNECT_LIMIT_S):
            _, connection = await loop.create_connection(
                lambda: Connection(self._target, self._dialect, self._now, self._idle.append, self._send_anew),
                host,
                port,
                ssl=self._tls,
                server_hostname=host if self._tls else None,
            )
        self._all.add(connection)
        return connection

    def send(self, record: Record, done: Done) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                connection.ask(record, done)
                return
            self._all.discard(connection)
        self._send_anew(record, done)

    def _send_anew(self, record: Record, done: Done) -> None:
        if self._closed:
            record.ended_s, record.code, record.detail = self._now(), "CANCELLED", "the load generator ended"
            done(record)
            return
        task = asyncio.get_running_loop().create_task(self._send_later(record, done))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _send_later(self, record: Record, done: Done) -> None:
        """Over a new connection. The time that it takes is part of the answer's, as for any client."""
        self._all = {one for one in self._all if one.transport is not None and not one.transport.is_closing()}
        try:
            if len(self._all) >= self._limit:
                raise OSError(f"{self._limit} connections are open")
            connection = await self._connect()
        except OSError as error:
            record.ended_s = self._now()
            record.sent_s = record.sent_s or record.ended_s
            record.code, record.detail = "NO_CONNECTION", str(error) or type(error).__name__
            done(record)
        else:
            connection.ask(record, done)

    def cancel(self, record: Record) -> None:
        for connection in self._all:
            if connection.record is record:
                connection.leave()
                return

    async def close(self) -> None:
        self._closed = True
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in self._all:
            if connection.transport is not None:
                connection.transport.close()
