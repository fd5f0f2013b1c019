"""Three documents that the search tests ask for."""

from tests.rpc.retriever.conftest import document
from weft.retriever.v1 import retriever_pb2 as pb

HYBRID, DENSE, BM25 = pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_BM25
BIRDS = {
    "heron.md": ("# Herons\n\nA heron stands in the shallow water and waits for fish.", "grey", "1"),
    "swan.md": ("# Swans\n\nA swan swims on the lake and eats plants.", "white", "1"),
    "owl.md": ("# Owls\n\nAn owl hunts mice in the fields at night.", "brown", "2"),
}


def bird_documents() -> list[pb.IngestDocumentsRequest]:
    """Each bird with its colour and shelf."""
    return [
        document(source, text, document_id=source, metadata={"colour": colour, "shelf": shelf})
        for source, (text, colour, shelf) in BIRDS.items()
    ]
