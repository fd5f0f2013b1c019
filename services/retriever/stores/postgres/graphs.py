"""Builds pgvector's graphs while the tables are read and written, one at a time."""

import asyncio

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.retriever.stores.postgres.database import NO_ROOM, Database, state_of, why
from services.retriever.stores.postgres.statements import Statements

_MEMORY = "512MB"
_THREADS = 2


class Graphs:
    """`build` begins one; `forget` and `close` end what is under way."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._one = asyncio.Lock()
        self._log = structlog.get_logger("graph")

    def __repr__(self) -> str:
        return f"Graphs(building={list(self._tasks)})"

    def build(self, collection: str, statements: Statements) -> None:
        """Builds the graph of a collection, unless it is being built."""
        if collection not in self._tasks:
            self._tasks[collection] = asyncio.create_task(self._build(collection, statements), name="graph")

    async def forget(self, collection: str) -> None:
        """The collection is going."""
        if (task := self._tasks.pop(collection, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Ends all."""
        for collection in list(self._tasks):
            await self.forget(collection)

    async def _build(self, collection: str, statements: Statements) -> None:
        try:
            async with self._one, self._database.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                self._log.info("building a graph", collection=collection)
                await connection.execute(text(f"SET maintenance_work_mem = '{_MEMORY}'"))
                # Much has come by now. Until this, each word that is looked up is looked up in its table as well.
                await connection.execute(text(statements.vacuum))
                await self._create(connection, statements)
                await connection.execute(
                    text("UPDATE collections SET has_graph = true WHERE collection = :collection"),
                    {"collection": collection},
                )
                await connection.execute(text("RESET ALL"))
                self._log.info("graph built", collection=collection)
        except SQLAlchemyError as error:
            # Without it searches are exact and slower; the next commit tries again.
            self._log.warning("no graph for now", collection=collection, why=why(error))
        finally:
            self._tasks.pop(collection, None)

    async def _create(self, connection: AsyncConnection, statements: Statements) -> None:
        for threads in (_THREADS, 0):
            # One that was broken off is there, and of no use.
            await connection.execute(text(f"DROP INDEX IF EXISTS {statements.graph}"))
            await connection.execute(text(f"SET max_parallel_maintenance_workers = {threads}"))
            try:
                await connection.execute(text(statements.create_graph))
            except DBAPIError as error:
                # Threads share their memory in /dev/shm, of which containers have little; one alone needs none there.
                if state_of(error) not in NO_ROOM or not threads:
                    raise
                self._log.info("building with one thread", why=why(error))
            else:
                return
