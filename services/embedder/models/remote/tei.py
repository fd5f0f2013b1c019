"""Hugging Face's text-embeddings-inference: `/info`, `/embed`, `/tokenize`."""

from collections.abc import Sequence

import numpy as np

from services.embedder.models.remote.backend import Answer, Card
from services.embedder.models.remote.http import JsonClient, estimated, may_be_cut
from services.embedder.ports import Prepared
from services.kit.errors import Internal


class TeiBackend:
    """Long texts are counted by the server first, so that what it cuts is known."""

    def __init__(self, name: str, client: JsonClient) -> None:
        self._name = name
        self._client = client

    async def describe(self) -> Card:
        info = await self._client.get("/info")
        if not isinstance(info, dict) or "embedding" not in (info.get("model_type") or {}):
            raise Internal(
                f"the server of {self._name} is no text-embeddings-inference with an embedding model",
                reason="REMOTE_ANSWER",
            )
        model = str(info.get("model_id"))
        pooling = (info["model_type"]["embedding"] or {}).get("pooling")
        return Card(
            identity=f"{model} {info.get('model_sha')} {pooling}",
            max_tokens=int(info.get("max_input_length") or 0),
            max_texts=int(info.get("max_client_batch_size") or 0),
            runtime=f"tei {info.get('version')} {model} {info.get('model_dtype')}",
        )

    async def count(self, texts: Sequence[str], max_tokens: int) -> list[Prepared]:
        found = estimated(texts, max_tokens)
        for index, text in enumerate(texts):
            if may_be_cut(text, max_tokens):
                (tokens,), _ = await self._client.post("/tokenize", {"inputs": [text], "add_special_tokens": True})
                found[index] = Prepared(min(len(tokens), max_tokens), len(tokens) > max_tokens, text=text)
        return found

    async def embed(self, batch: Sequence[Prepared], timeout_s: float) -> Answer:
        body = {"inputs": [text.text for text in batch], "truncate": True, "normalize": True}
        answer, headers = await self._client.post("/embed", body, timeout_s)
        try:
            return Answer(np.asarray(answer, np.float32), int(headers.get("x-compute-tokens") or 0))
        except (TypeError, ValueError) as error:
            message = f"the server of {self._name} answered /embed with something other than vectors"
            raise Internal(message, reason="REMOTE_ANSWER") from error

    async def reach(self) -> None:
        await self._client.get("/info")

    async def close(self) -> None:
        await self._client.close()
