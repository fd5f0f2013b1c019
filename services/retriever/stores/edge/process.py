"""The store's process: holds every index, since Qdrant Edge holds the interpreter's lock in each call."""

import pickle
import sys

from services.retriever.frames import answer_frames, become_child
from services.retriever.stores.edge.catalog import Catalog
from services.retriever.stores.edge.operations import Refused
from services.retriever.stores.edge.refusal import INTERNAL, Refusal
from services.retriever.stores.edge.start import StoreStart


def main() -> int:
    """Argument: a StoreStart as JSON."""
    become_child()
    catalog = Catalog(StoreStart.from_json(sys.argv[1]))
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
