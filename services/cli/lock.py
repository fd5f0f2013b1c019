"""One mesh per data folder: a lock that the system lets go of when its process ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from services.cli.problem import Problem


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Holds the folder for this process. Raises Problem, naming the process that has it, where it is taken."""
    path = data_dir / "run" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise Problem(f"{data_dir} cannot be used: {error.strerror}; choose another folder with --data-dir") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            pid = file.read(32).strip() or "unknown"
            raise Problem(
                f"a mesh runs on {data_dir} already (pid {pid}): stop it, or choose another folder with --data-dir"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
