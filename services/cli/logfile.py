"""The log files of child processes: opened for appending, and kept within a bound."""

import os
from pathlib import Path
from typing import IO

LIMIT_BYTES = 16 * 1024 * 1024
TAIL_LINES = 12
TAIL_BYTES = 16 * 1024
_LINE_CHARACTERS = 300


class LogFile:
    """One process's log. What an earlier mesh wrote, or what is over LIMIT_BYTES, is kept once more as `NAME.log.1`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(self._older)

    def __repr__(self) -> str:
        return f"LogFile({self.path})"

    @property
    def _older(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def open(self) -> IO[bytes]:
        """For a child to write to; the caller closes its own copy once the child has started."""
        return self.path.open("ab", buffering=0)

    def bound(self) -> None:
        """Moves the content aside when it is over LIMIT_BYTES. Writers append, so they go on at the new beginning."""
        if not self.path.exists() or self.path.stat().st_size <= LIMIT_BYTES:
            return
        with self.path.open("rb") as log:
            log.seek(-LIMIT_BYTES, os.SEEK_END)
            self._older.write_bytes(log.read(LIMIT_BYTES))
        os.truncate(self.path, 0)

    def tail(self) -> str:
        """The last TAIL_LINES lines, the long ones cut."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as log:
            log.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
            lines = log.read(TAIL_BYTES).decode(errors="replace").splitlines()
        return "\n".join(line[:_LINE_CHARACTERS] for line in lines[-TAIL_LINES:])
