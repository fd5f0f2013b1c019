"""A snapshot's file: frames of JSON and of vectors, one document after the other. Blocks: call it from a thread.

After the magic line come frames, each a length of eight bytes and so many bytes: the header; for each document its
record, then pages of its chunks, each two frames, the chunks and their vectors; at the end an empty frame.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from services.kit.errors import DataLoss
from services.retriever.document import Chunk, IndexOptions, Record, Spec, Vectored
from services.retriever.frames import LENGTH, read_frame
from services.retriever.shelf import Entry, options_from, options_values, spec_from
from services.retriever.stores.state_file import sync_folder

_MAGIC = b"weft-snapshot-1\n"


class SnapshotWriter:
    """Writes beside `path` and puts the file there with `finish`; `abandon` leaves nothing."""

    def __init__(self, path: Path, index: str, entry: Entry) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.new")
        self._file = self._draft.open("wb")
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self.documents = 0
        self.chunk_count = 0
        self._write(_MAGIC)
        header = {"index": index, "spec": asdict(entry.spec), "options": options_values(entry.options)}
        self._frame(json.dumps(header).encode())

    def record(self, record: Record) -> None:
        """The next document; its chunks follow."""
        self.documents += 1
        self._frame(json.dumps({**asdict(record), "metadata": dict(record.metadata)}).encode())

    def chunks(self, chunks: list[Vectored]) -> None:
        """Some of the document's chunks, with all of them together as many as its record says."""
        self.chunk_count += len(chunks)
        self._frame(json.dumps([asdict(item.chunk) for item in chunks]).encode())
        self._frame(b"".join(item.vector for item in chunks))

    def finish(self) -> tuple[str, int]:
        """Puts the file in its place, on disk; its SHA-256 in hex and its size."""
        self._frame(b"")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self._path)
        sync_folder(self._path.parent)
        return self._digest.hexdigest(), self._size_bytes

    def abandon(self) -> None:
        """Removes what was written."""
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def _frame(self, content: bytes) -> None:
        self._write(LENGTH.pack(len(content)))
        self._write(content)

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._size_bytes += len(content)


class SnapshotReader:
    """Reads what the writer wrote; `close` after use."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        if self._file.read(len(_MAGIC)) != _MAGIC:
            self._file.close()
            raise DataLoss("the snapshot's file does not begin as one", reason="SNAPSHOT_DAMAGED", field="name")
        header = json.loads(self._frame())
        self.spec: Spec = spec_from(header["spec"])
        self.options: IndexOptions = options_from(header["options"])
        self._record: Record | None = None
        self._left = 0

    def next(self) -> tuple[Record, list[Vectored], bool] | None:
        """Some chunks of a document, and whether they are its last; None at the end."""
        if self._record is None or self._left == 0:
            frame = self._frame()
            if not frame:
                return None
            self._record = Record(**json.loads(frame))
            self._left = self._record.chunks
        values, vectors = json.loads(self._frame()), self._frame()
        size_bytes = self.spec.model.dimensions * 4
        chunks = [
            Vectored(
                Chunk(**{**value, "heading_path": tuple(value["heading_path"])}),
                vectors[number * size_bytes : (number + 1) * size_bytes],
            )
            for number, value in enumerate(values)
        ]
        self._left -= len(chunks)
        return self._record, chunks, self._left <= 0

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _frame(self) -> bytes:
        frame = read_frame(self._file)
        if frame is None:
            raise DataLoss("the snapshot's file ends too early", reason="SNAPSHOT_DAMAGED", field="name")
        return frame
