"""A small file that is replaced as a whole: after a crash it holds the old bytes or the new ones."""

import os
from pathlib import Path


class StateFile:
    """Blocks: call it from a thread. One writer at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes:
        """What was saved last; empty where nothing was."""
        return self._path.read_bytes() if self._path.exists() else b""

    def save(self, content: bytes) -> None:
        """On disk when it returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f".{self._path.name}.new")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        sync_folder(self._path.parent)


def sync_folder(folder: Path) -> None:
    """Makes names that were made or changed in it survive the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
