"""The store's process: holds every index, since Qdrant Edge holds the interpreter's lock in each call."""

import pickle
import sys
from pathlib import Path

from services.retriever.core.fusion import dbsf, rrf
from services.retriever.frames import answer_frames, become_child
from services.retriever.stores.catalog import Catalog
from services.retriever.stores.operations import Refused
from services.retriever.stores.refusal import INTERNAL, Refusal
from services.retriever.stores.shard import Bm25Settings, SearchSettings
from services.retriever.stores.start import StoreStart

_FUSIONS = {"dbsf": dbsf, "rrf": rrf}


def main() -> int:
    """Argument: a StoreStart as JSON."""
    become_child()
    start = StoreStart.from_json(sys.argv[1])
    bm25 = Bm25Settings(start.bm25_language, start.bm25_k, start.bm25_b, start.bm25_average_words)
    search = SearchSettings(start.candidates, _FUSIONS[start.fusion])
    catalog = Catalog(Path(start.folder), bm25, search, start.max_indexes, start.hnsw_min_chunks)
    try:
        answer_frames(lambda frame: (_answer(catalog, frame), True))
    finally:
        catalog.close()
    return 0


def _answer(catalog: Catalog, frame: bytes) -> bytes:
    answer: object
    try:
        # Both ends of this pipe are Weft's own code, and it carries no code of others.
        answer = catalog.do(pickle.loads(frame))  # noqa: S301
    except Refusal as refusal:
        answer = refusal.answer
    except Exception as error:
        answer = Refused(INTERNAL, "STORE_FAILED", f"the store failed: {error}")
    return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    sys.exit(main())
