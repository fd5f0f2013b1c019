"""The client of a Qdrant server: whom it calls."""

import grpc
import grpc.aio
import pytest

from services.kit.settings.retriever import RetrieverSettings
from services.retriever.stores.qdrant.server import client_of


async def test_no_proxy_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "http_proxy", "HTTP_PROXY"):
        # Nobody listens there.
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = client_of(
        RetrieverSettings.model_validate(
            {"store": "qdrant", "qdrant_url": "http://127.0.0.1:6333", "qdrant_grpc_port": port, "store_timeout_s": 5.0}
        )
    )
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.get_collections()
        # The server was reached; it has no such method.
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await client.close()
        await server.stop(None)
