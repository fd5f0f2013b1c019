"""Brings the database's tables up to date, one service at a time. Blocks: call it from a thread."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from services.kit.errors import FailedPrecondition

# Any number that no other program locks by; the letters `weft` as one.
_LOCK = 0x77656674
_MIN_VERSION = (0, 8)
_LOCK_TIMEOUT_S = 120


def migrate(url: URL, schema: str) -> None:
    """Raises FailedPrecondition where pgvector is missing or too old."""
    engine = create_engine(url, hide_parameters=True)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            try:
                _check_vector(connection)
                connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
                with engine.connect() as migrating:
                    _upgrade(migrating, schema)
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    finally:
        engine.dispose()


def _check_vector(connection: Connection) -> None:
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    except DBAPIError as error:
        raise FailedPrecondition(
            f"Postgres cannot make its extension vector ({error.orig}); install pgvector 0.8 there, and have an "
            "administrator run CREATE EXTENSION vector",
            reason="NO_PGVECTOR",
        ) from error
    found = str(connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).scalar_one())
    if tuple(int(part) for part in found.split(".")[:2]) < _MIN_VERSION:
        raise FailedPrecondition(
            f"Postgres has pgvector {found}, and 0.8 is the first that searches on when a filter left too little; "
            "install it and run ALTER EXTENSION vector UPDATE",
            reason="PGVECTOR_TOO_OLD",
        )


def _upgrade(connection: Connection, schema: str) -> None:
    connection.execute(text(f"SET search_path TO {schema}, public"))
    connection.commit()
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update({"connection": connection, "schema": schema})
    command.upgrade(config, "head")
    connection.commit()
