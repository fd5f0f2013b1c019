"""A collection's folder: which shard is the current one, what it was built of, and what must survive a crash there."""

import contextlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from services.retriever.core.naming import is_index_name
from services.retriever.document import EmbeddingModel, IndexOptions, Spec
from services.retriever.shelf import Entry, Shelf
from services.retriever.stores.state_file import StateFile
from services.retriever.stores.words import Bm25Settings

_META, _CURRENT, _GRAPH, _DELETED = "index.json", "current", "graph", "deleted"
_FIRST_SHARD = "shard"


class Folder:
    """The files beside a collection's shards. Every change is there as a whole after a crash, or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        meta = json.loads((path / _META).read_text())
        self.bm25 = Bm25Settings(**meta["bm25"])
        self.spec = Spec(EmbeddingModel(**meta["model"]), self.bm25.language, meta.get("quantised", False))

    @staticmethod
    def describe(path: Path, spec: Spec, bm25: Bm25Settings) -> Path:
        """Writes down what a new collection is built of; the folder of its first shard."""
        shard = path / _FIRST_SHARD
        shard.mkdir(parents=True)
        meta = {"model": asdict(spec.model), "bm25": asdict(bm25), "quantised": spec.quantised}
        (path / _META).write_text(json.dumps(meta))
        return shard

    @property
    def shard(self) -> Path:
        """The current shard."""
        pointer = self.path / _CURRENT
        return self.path / (pointer.read_text() if pointer.exists() else _FIRST_SHARD)

    @property
    def next_shard(self) -> Path:
        """Where the next one is made."""
        number = self.shard.name.removeprefix(_FIRST_SHARD).lstrip("-") or "0"
        return self.path / f"{_FIRST_SHARD}-{int(number) + 1}"

    @property
    def graph_chunks(self) -> int:
        """Chunks that were there when the graph was built; 0 where there is none."""
        found = self.path / _GRAPH
        return int(found.read_text()) if found.exists() else 0

    @property
    def has_deleted(self) -> bool:
        """Whether points may have been deleted since the shard was made."""
        return (self.path / _DELETED).exists()

    def note_deleted(self) -> None:
        """Remembers that points were deleted."""
        (self.path / _DELETED).touch()

    def take_over(self, shard: Path, graph_chunks: int) -> None:
        """Makes `shard`, whose files are on disk, the current one."""
        _replace(self.path / _CURRENT, shard.name)
        _replace(self.path / _GRAPH, str(graph_chunks))
        (self.path / _DELETED).unlink(missing_ok=True)

    def tidy_up(self) -> None:
        """Removes every shard but the current one."""
        for path in self.path.iterdir():
            if path.is_dir() and path != self.shard:
                shutil.rmtree(path)


def shelf_of(folder: Path) -> bytes:
    """The library's state for folders that are named as their indexes are; empty where there is none."""
    entries = dict[str, Entry]()
    for path in sorted(folder.glob(f"[a-z0-9]*/{_META}")):
        name = path.parent.name
        # A damaged one is told of when it is opened.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if is_index_name(name):
                entries[name] = Entry(name, Folder(path.parent).spec, IndexOptions())
    return Shelf(entries, {}).to_json() if entries else b""


def _replace(path: Path, text: str) -> None:
    StateFile(path).save(text.encode())
