"""Documents that cannot be ingested, each for a reason of its own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fakes.embedder import FakeEmbedder
from tests.rpc.retriever.conftest import Retriever, document, running
from weft.retriever.v1 import retriever_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def retriever(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Retriever]:
    """A retriever that takes documents of up to 2,000 bytes."""
    embedder = FakeEmbedder()
    await embedder.start()
    try:
        async with running(tmp_path_factory.mktemp("refusals"), embedder.address, max_document_bytes=2000) as found:
            yield found
    finally:
        await embedder.stop()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"source": "", "text": "x"}, "NO_SOURCE"),
        ({"document_id": "a b", "text": "x"}, "INVALID_DOCUMENT_ID"),
        ({"source": "a.md"}, "EMPTY_DOCUMENT"),
        ({"source": "a.md", "text": ""}, "EMPTY_DOCUMENT"),
        ({"source": "a.md", "text": "x" * 2001}, "DOCUMENT_TOO_LARGE"),
        ({"source": "a.md", "text": "x", "metadata": {str(n): "" for n in range(33)}}, "TOO_MUCH_METADATA"),
        ({"source": "a.md", "text": "x", "metadata": {"": "value"}}, "INVALID_METADATA"),
        ({"source": "a.md", "text": "x", "metadata": {"a": "v" * 1024}}, "INVALID_METADATA"),
        ({"source": "a.md", "text": "x", "metadata": {str(n): "v" * 500 for n in range(20)}}, "INVALID_METADATA"),
        ({"source": "a.md", "title": "x" * 1025, "text": "x"}, "NAME_TOO_LONG"),
        ({"source": "a.md", "media_type": "text/" + "x" * 255, "text": "x"}, "NAME_TOO_LONG"),
        ({"source": "a\0.md", "text": "x"}, "INVALID_TEXT"),
        ({"source": "a.md", "text": "x", "metadata": {"a": "\0"}}, "INVALID_TEXT"),
        ({"source": "a.png", "media_type": "image/png", "content": b"x"}, "UNSUPPORTED_TYPE"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_documents_that_cannot_be(retriever: Retriever, fields: dict[str, Any], reason: str) -> None:
    request = pb.IngestDocumentsRequest(document=pb.Document(**fields))
    bad, good = await retriever.ingest(request, document("good.md", "A good one."))
    assert (bad.status, bad.failure.reason) == (pb.IngestDocumentsResponse.STATUS_FAILED, reason)
    assert bad.failure.message
    assert good.status != pb.IngestDocumentsResponse.STATUS_FAILED
