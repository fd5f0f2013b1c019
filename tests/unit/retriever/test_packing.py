"""Hits over the store's pipe come out as they went in."""

import pickle

from services.retriever.document import Chunk, Hit
from services.retriever.stores.edge.packing import packed, unpacked
from tests.stores.documents import record


def test_hits_come_out_as_they_went_in_and_share_their_documents_records() -> None:
    heron, swan = record("heron", "1", 2, {"colour": "grey"}), record("swan", "2", 1)
    hits = [
        Hit(heron, Chunk("00001", "It waits.", "Herons", ("Part", "One"), 3, 10, 19), 0.9, 0.8, 0.7, b"\0\1"),
        Hit(swan, Chunk("00000", "It swims.", "", (), 0, 0, 9), 0.5, 0.0, 0.5, b""),
        Hit(heron, Chunk("00000", "It stands.", "Herons", (), 1, 0, 10), 0.4, 0.4, 0.0, b""),
    ]
    found = unpacked(pickle.loads(pickle.dumps(packed(hits))))
    assert found == hits
    assert found[0].record is found[2].record
    assert unpacked(packed([])) == []
