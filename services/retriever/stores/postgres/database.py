"""Connections to Postgres: transactions with retries, and its failures as this service's own errors."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from services.kit.errors import Exhausted, Internal, NotFound, Unavailable, WeftError
from services.retriever.stores.reach import Reach

_RETRY_DELAY_S = 1.0
_ATTEMPTS = 3
_FIRST_WAIT_S, _MAX_WAIT_S = 0.05, 1.0
_POOL_TIMEOUT_S = 10.0
# States of Postgres: two writers met, a table is not there, the server has no room.
_MET = ("40001", "40P01")
_NO_TABLE = "42P01"
NO_ROOM = ("53100", "53200", "53300")
# Classes of states in which the server is away: connections, and its own shutting down.
_AWAY = ("08", "57")

Answer = TypeVar("Answer")
Work = Callable[[AsyncConnection], Awaitable[Answer]]


class Database:
    """One pool of connections. `close` ends them all."""

    def __init__(self, url: URL, schema: str, connections: int) -> None:
        self._name = f"{url.host or 'a local socket'}/{url.database or ''}"
        self.engine: AsyncEngine = create_async_engine(
            url,
            # What is said to the database holds documents, which belong in no log.
            hide_parameters=True,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT_S,
            pool_pre_ping=True,
            # Compiling a statement takes longer than any of these runs.
            connect_args={"options": f"-csearch_path={schema},public -cjit=off"},
        )
        self.reach = Reach("postgres", self._probe)

    def __repr__(self) -> str:
        return f"Database({self._name} {self.reach!r})"

    async def change(self, work: Work[Answer]) -> Answer:
        """What `work` gives, in one transaction. It is run again where writers met or the connection was lost.

        So it has to be such that running it twice changes nothing more.
        """
        return await self._run(work, "READ COMMITTED")

    async def look(self, work: Work[Answer]) -> Answer:
        """What `work` gives, which sees one state of everything however many statements it makes."""
        return await self._run(work, "REPEATABLE READ")

    async def close(self) -> None:
        """Ends every connection."""
        await self.reach.close()
        await self.engine.dispose()

    async def _run(self, work: Work[Answer], isolation: str) -> Answer:
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_passing),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=_FIRST_WAIT_S, max=_MAX_WAIT_S, jitter=_FIRST_WAIT_S),
            reraise=True,
        )
        try:
            return await retrying(self._once, work, isolation)
        except PoolTimeout as error:
            raise Exhausted(
                "every connection to Postgres is in use; try again, or raise postgres_connections",
                reason="STORE_QUEUE_FULL",
                retry_delay_s=_RETRY_DELAY_S,
            ) from error
        except (SQLAlchemyError, OSError) as error:
            raise self._told(error) from error

    async def _once(self, work: Work[Answer], isolation: str) -> Answer:
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level=isolation)
            async with connection.begin():
                return await work(connection)

    def _told(self, error: Exception) -> WeftError:
        state = state_of(error)
        if state == _NO_TABLE:
            return NotFound("there is no such collection", reason="COLLECTION_GONE")
        if state in NO_ROOM:
            return Exhausted(f"Postgres has no room: {why(error)}", reason="STORE_FULL", retry_delay_s=_RETRY_DELAY_S)
        if _is_passing(error):
            if state not in _MET:
                self.reach.lost()
            return Unavailable(
                f"Postgres at {self._name} does not answer ({why(error)}); try again",
                reason="STORE_AWAY",
                retry_delay_s=_RETRY_DELAY_S,
            )
        return Internal(f"Postgres failed: {why(error)}", reason="STORE_FAILED")

    async def _probe(self) -> None:
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))


def state_of(error: BaseException) -> str:
    """The SQLSTATE; empty where there is none."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def why(error: BaseException) -> str:
    """The first line of what the driver says, which holds no values."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__


def _is_passing(error: BaseException) -> bool:
    """Whether the same may work in a moment."""
    if isinstance(error, OSError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = state_of(error)
    return error.connection_invalidated or state in _MET or state[:2] in _AWAY or (not state and _lost(error))


def _lost(error: DBAPIError) -> bool:
    return type(error.orig).__name__ in ("OperationalError", "InterfaceError")
