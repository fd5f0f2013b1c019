"""Builds the graph of a copy of a collection's shard, in a process of its own: it takes minutes and holds every lock.

Arguments: the collection's folder, the shard to copy and where to. Asked `copy`, then `build`.
"""

import os
import shutil
import sys
from pathlib import Path

import qdrant_edge as qdrant

from services.retriever.frames import answer_frames, become_child
from services.retriever.stores.edge.folder import Folder
from services.retriever.stores.edge.layout import graph_config

# Searches and ingests go before.
_NICENESS = 15


def main() -> int:
    """Ends after `build`, with the copy closed and on disk."""
    become_child()
    os.nice(_NICENESS)
    folder, source, target = (Path(argument) for argument in sys.argv[1:4])

    def answer(question: bytes) -> tuple[bytes, bool]:
        if question == b"copy":
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
            return b"copied", True
        build(folder, target)
        return b"built", False

    answer_frames(answer)
    return 0


def build(folder: Path, target: Path) -> None:
    """Gives the shard `target` of the collection in `folder` its graph; it is closed and on disk when it returns."""
    threads = max(1, (os.cpu_count() or 2) - 1)
    shard = qdrant.EdgeShard.load(str(target), graph_config(Folder(folder).spec, threads))
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    sys.exit(main())
