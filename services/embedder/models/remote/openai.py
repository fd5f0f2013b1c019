"""Servers with OpenAI's `/v1/embeddings`."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from services.embedder.models.remote.backend import Answer, Card
from services.embedder.models.remote.http import JsonClient, estimated
from services.embedder.ports import Prepared
from services.kit.errors import Internal, InvalidArgument
from services.kit.settings.embedder import EmbeddingModelSettings


def base_url(url: str) -> str:
    """The server's URL up to and with /v1."""
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


class OpenAIBackend:
    """A text beyond the model's limit is the server's to cut or to refuse, and what it cut it does not tell."""

    def __init__(self, name: str, settings: EmbeddingModelSettings, client: JsonClient) -> None:
        self._name = name
        self._remote = settings.remote_name
        self._encoding = settings.encoding
        self._client = client

    async def describe(self) -> Card:
        """The model by the name in the settings, or the only one that the server lists."""
        if not self._remote:
            self._remote = await self._only_one()
        return Card(identity=self._remote, runtime=f"openai {self._remote}")

    async def _only_one(self) -> str:
        try:
            listed = (await self._client.get("/models")).get("data") or []
        except InvalidArgument:
            return self._name
        names = [str(one.get("id")) for one in listed]
        if self._name in names:
            return self._name
        if len(names) != 1:
            raise Internal(
                f"the server of {self._name} has the models {', '.join(names) or 'none'}; set remote_name to one",
                reason="REMOTE_NAME",
            )
        return names[0]

    async def count(self, texts: Sequence[str], max_tokens: int) -> list[Prepared]:
        return estimated(texts, max_tokens)

    async def embed(self, batch: Sequence[Prepared], timeout_s: float) -> Answer:
        body = {
            "model": self._remote,
            "input": [list(text.ids) if text.ids else text.text for text in batch],
            "encoding_format": self._encoding,
        }
        answer, _ = await self._client.post("/embeddings", body, timeout_s)
        try:
            data = sorted(answer["data"], key=lambda item: int(item["index"]))
            rows = [_vector(item["embedding"]) for item in data]
            vectors = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
            return Answer(vectors, int((answer.get("usage") or {}).get("prompt_tokens") or 0))
        except (KeyError, TypeError, ValueError) as error:
            raise Internal(
                f"the server of {self._name} answered with something other than OpenAI's embeddings: {error!r}",
                reason="REMOTE_ANSWER",
            ) from error

    async def reach(self) -> None:
        # A server that has no list of its models is there nevertheless.
        with suppress(InvalidArgument):
            await self._client.get("/models")

    async def close(self) -> None:
        await self._client.close()


def _vector(found: Any) -> Any:
    """A list of numbers, or base64 of little-endian float32, whichever the server chose to send."""
    if isinstance(found, str):
        return np.frombuffer(base64.b64decode(found), "<f4")
    return np.asarray(found, np.float32)
