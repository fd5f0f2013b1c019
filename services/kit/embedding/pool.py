"""Several embedders that serve one model, as if they were one: each call goes where the wait is shortest."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

import grpc.aio

from services.kit.clock import Now, monotonic_s
from services.kit.embedding.model import Embedded, EmbeddingModel, to_embedded
from services.kit.embedding.pick import Standing, pick
from services.kit.embedding.replica import Replica
from services.kit.errors import Exhausted, Unavailable, WeftError
from services.kit.settings.shared import GrpcSettings
from weft.embedder.v1 import embedder_pb2

# How long a call waits for embedders that were not heard of yet, or for one that comes back.
_FIRST_WORD_S = 2.0
_RETRY_S = 1.0
# Before the embedder says how many tokens a text has, so many bytes are taken for one.
_BYTES_PER_TOKEN = 4
_SPECIAL_TOKENS = 2
# For so long embedders of another model wait for those of the pool's own to come back.
_OWN_MODEL_S = 30.0

Answer = TypeVar("Answer")


class EmbedderPool:
    """Use it as an async context manager, from one event loop.

    All embedders have to serve the same model with the same fingerprint: the first that answers says which, and those
    with another are left out, with a log line, until those of the first kind are gone for good. A call that meets a
    replica that is away or full goes to another one, each once; INVALID_ARGUMENT and the like go to the caller as they
    are. `silence_s` without an answer counts as away.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        settings: GrpcSettings,
        *,
        model: str = "",
        silence_s: float = 60.0,
        now: Now = monotonic_s,
    ) -> None:
        if not addresses:
            raise ValueError("a pool needs the address of at least one embedder")
        self._addresses = tuple(dict.fromkeys(addresses))
        self._settings = settings
        self._name = model
        self._silence_s = silence_s
        self._now = now
        self._replicas: dict[str, Replica] = {}
        self._model: EmbeddingModel | None = None
        self._alone_since_s: float | None = None
        self._changes = asyncio.Event()

    def __repr__(self) -> str:
        return f"EmbedderPool({', '.join(map(repr, self._replicas.values()))})"

    async def __aenter__(self) -> Self:
        for address in self._addresses:
            self._replicas[address] = Replica(
                address, self._name, self._settings, self._now, self._admit, self._changed
            )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.gather(*(replica.close() for replica in self._replicas.values()))
        self._replicas.clear()

    @property
    def serving(self) -> int:
        """Embedders that take texts now."""
        return sum(one.standing is Standing.SERVING for one in self._replicas.values())

    async def model(self) -> EmbeddingModel:
        """What the pool serves; raises Unavailable where no embedder answers."""
        await self._some(frozenset())
        if self._model is None or not self.serving:
            raise self._nobody()
        return self._model

    async def embed_query(self, text: str) -> Embedded:
        """The vector of a text to search with. Raises Unavailable or Exhausted, each with a delay, where none takes it.

        Cancel it, as `asyncio.timeout` does, where the caller's deadline passes.
        """
        return (await self.embed([text], query=True))[0]

    async def embed(self, texts: Sequence[str], *, query: bool) -> list[Embedded]:
        """The vectors of a few texts, up to the embedder's limit for one call, in order; all or an error."""
        purpose = embedder_pb2.PURPOSE_QUERY if query else embedder_pb2.PURPOSE_PASSAGE
        request = embedder_pb2.EmbedRequest(model=self._name, texts=texts, purpose=purpose)

        async def ask(replica: Replica) -> list[Embedded]:
            async with replica.call(_tokens(texts), self._silence_s):
                response = await replica.stub.Embed(request)
                return [to_embedded(one, self._dimensions) for one in response.embeddings]

        return await self._elsewhere(ask)

    async def embed_passages(self, texts: Sequence[str]) -> list[Embedded]:
        """The vectors of any number of texts to be found, in order, over a stream: a full embedder holds it back.

        Texts that an embedder refuses raise InvalidArgument that names the text; what one that is lost has not
        answered is sent to another.
        """
        found: dict[int, Embedded] = {}

        async def ask(replica: Replica) -> None:
            left = [index for index in range(len(texts)) if index not in found]
            tokens = _tokens([texts[index] for index in left])
            async with replica.call(tokens, self._silence_s) as answered:
                call: Any = replica.stub.StreamEmbed(self._passages(texts, left))
                try:
                    while len(found) < len(texts):
                        answer = await call.read()
                        if answer is grpc.aio.EOF:
                            raise replica.away(f"its stream ended early with {(await call.code()).name}")
                        answered()
                        if answer.WhichOneof("result") == "error":
                            raise TextRefused(answer.index, answer.error)
                        found[answer.index] = to_embedded(answer.embedding, self._dimensions)
                finally:
                    call.cancel()

        if texts:
            await self._elsewhere(ask)
        return [found[index] for index in range(len(texts))]

    async def _passages(self, texts: Sequence[str], left: Sequence[int]) -> AsyncIterator[Any]:
        for index in left:
            yield embedder_pb2.StreamEmbedRequest(
                index=index, text=texts[index], purpose=embedder_pb2.PURPOSE_PASSAGE, model=self._name
            )

    async def _elsewhere(self, ask: Callable[[Replica], Awaitable[Answer]]) -> Answer:
        """Asks one replica after the other until one answers, each at most once."""
        tried: dict[str, WeftError] = {}
        while True:
            replica = await self._some(tried.keys())
            if replica is None:
                raise self._refusal(tried)
            try:
                return await ask(replica)
            except (Unavailable, Exhausted) as error:
                tried[replica.address] = error

    async def _some(self, tried: Collection[str]) -> Replica | None:
        """The best replica; waits a little for those that were never heard of. None where none is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WORD_S):
                while True:
                    address = pick([one.view for one in self._replicas.values()], tried)
                    if address is not None:
                        return self._replicas[address]
                    if all(one.standing is not Standing.UNHEARD for one in self._replicas.values()):
                        return None
                    self._changes.clear()
                    await self._changes.wait()
        return None

    @property
    def _dimensions(self) -> int:
        return self._model.dimensions if self._model else 0

    def _admit(self, replica: Replica, model: EmbeddingModel) -> bool:
        """Whether this model is the pool's. The first one becomes it, and another one when that is gone."""
        if self._model is None or (model.fingerprint != self._model.fingerprint and self._gone(replica)):
            self._model = model
        return model.fingerprint == self._model.fingerprint

    def _gone(self, replica: Replica) -> bool:
        """Whether no other replica serves the pool's model, or can be expected to come back with it."""
        assert self._model is not None
        known = [one.model for one in self._replicas.values() if one is not replica]
        if self.serving:
            return False
        if all(model is not None and model.fingerprint != self._model.fingerprint for model in known):
            return True
        return self._alone_since_s is not None and self._now() - self._alone_since_s > _OWN_MODEL_S

    def _changed(self) -> None:
        if self.serving:
            self._alone_since_s = None
        elif self._alone_since_s is None:
            self._alone_since_s = self._now()
        self._changes.set()

    def _refusal(self, tried: dict[str, WeftError]) -> WeftError:
        """What the caller is told: that they are full, where one was, and otherwise that none is there."""
        full = [error for error in tried.values() if isinstance(error, Exhausted)]
        if full:
            return min(full, key=lambda error: error.retry_delay_s or 0.0)
        return self._nobody(tried)

    def _nobody(self, tried: dict[str, WeftError] | None = None) -> Unavailable:
        said = {address: error.message for address, error in (tried or {}).items()}
        for one in self._replicas.values():
            if one.standing is not Standing.SERVING:
                said.setdefault(one.address, f"the embedder at {one.address}: {one.standing.value} ({one.why_away})")
            elif one.opens_in_s:
                said.setdefault(one.address, f"the embedder at {one.address} failed several times and is left alone")
        open_in_s = [one.opens_in_s for one in self._replicas.values() if one.opens_in_s]
        return Unavailable(
            f"no embedder can be reached: {'; '.join(said.values()) or 'none is configured'}; try again later",
            reason="EMBEDDER_AWAY",
            retry_delay_s=max(_RETRY_S, min(open_in_s, default=0.0)),
        )


class TextRefused(WeftError):
    """An embedder's word on one text of several: `index` says which."""

    reason_default = "EMBEDDING_FAILED"

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def _tokens(texts: Sequence[str]) -> float:
    """About how many tokens these texts have."""
    return sum(len(text) / _BYTES_PER_TOKEN + _SPECIAL_TOKENS for text in texts)
