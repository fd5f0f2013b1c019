"""A model of another server, behind the Model port: retries, checks what comes back, finds the text that is refused."""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np
from prometheus_client import Counter
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
)
from tenacity.stop import stop_base

from services.embedder.models.onnx.network import normalised
from services.embedder.models.remote.backend import Answer, Backend, Card
from services.embedder.ports import BatchLimits, Embedded, ModelInfo, Prepared, Vectors
from services.kit.errors import DeadlineExceeded, Exhausted, Internal, InvalidArgument, Unavailable, WeftError
from services.kit.settings.embedder import EmbeddingModelSettings

_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 5.0
# What is assumed of a model whose server does not tell.
_MAX_TOKENS = 512
_PROBE = "weft"
_REACH_S = 5.0


class RemoteModel:
    """Sends at most `connections` requests at once, each with a bounded number of texts; see `open_remote`."""

    def __init__(
        self, info: ModelInfo, limits: BatchLimits, backend: Backend, settings: EmbeddingModelSettings, retries: Counter
    ) -> None:
        self._info = info
        self._limits = limits
        self._backend = backend
        self._settings = settings
        self._retries = retries

    def __repr__(self) -> str:
        return f"RemoteModel({self._info.name} {self._info.runtime})"

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def batches(self) -> BatchLimits:
        return self._limits

    async def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        prefix = self._info.prefix(query)
        whole = [prefix + text for text in texts]
        async for attempt in self._attempts(None):
            with attempt:
                return await self._backend.count(whole, self._info.max_tokens)
        raise AssertionError("the last attempt returns or raises")

    async def embed(self, batch: Sequence[Prepared], limit_s: float | None) -> list[Embedded | WeftError]:
        try:
            answer = await self._ask(batch, limit_s)
        except InvalidArgument as error:
            if len(batch) == 1:
                return [error]
            # One text that the server refuses must not cost the others their vectors: find it by halves.
            half = len(batch) // 2
            return [*await self.embed(batch[:half], limit_s), *await self.embed(batch[half:], limit_s)]
        vectors = checked(answer.vectors, len(batch), self._info)
        return [
            Embedded(vector, tokens, text.truncated)
            for vector, tokens, text in zip(vectors, shared_out(answer.tokens, batch), batch, strict=True)
        ]

    async def _ask(self, batch: Sequence[Prepared], limit_s: float | None) -> Answer:
        if limit_s is not None and limit_s <= 0:
            raise DeadlineExceeded("the deadline passed before the request was sent", reason="DEADLINE_IN_QUEUE")
        timeout_s = self._settings.request_timeout_s
        async for attempt in self._attempts(limit_s):
            with attempt:
                return await self._backend.embed(batch, min(timeout_s, limit_s or timeout_s))
        raise AssertionError("the last attempt returns or raises")

    def _attempts(self, limit_s: float | None) -> AsyncRetrying:
        stop: stop_base = stop_after_attempt(self._settings.retries + 1)
        return AsyncRetrying(
            retry=retry_if_exception_type((Exhausted, Unavailable)),
            stop=stop if limit_s is None else stop | stop_after_delay(limit_s),
            wait=_wait_s,
            before_sleep=lambda _: self._retries.labels(self._info.name).inc(),
            reraise=True,
        )

    async def why_away(self) -> str:
        try:
            async with asyncio.timeout(_REACH_S):
                await self._backend.reach()
        except TimeoutError:
            return f"the server of {self._info.name} does not answer"
        except Exhausted:
            # A full server is there.
            return ""
        except WeftError as error:
            return error.message
        return ""

    async def close(self) -> None:
        await self._backend.close()


def _wait_s(state: RetryCallState) -> float:
    """What the server asked for, within reason, or twice as long each time."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_delay_s if isinstance(error, WeftError) else None
    own_s = _FIRST_RETRY_S * float(2 ** (state.attempt_number - 1))
    return min(asked_s if asked_s is not None else own_s, _LAST_RETRY_S)


def checked(vectors: Vectors, texts: int, info: ModelInfo) -> Vectors:
    """The vectors with length 1; raises Internal where they are not one of the right size for each text."""
    if vectors.ndim != 2 or len(vectors) != texts:
        raise Internal(
            f"the server of {info.name} answered with vectors of shape {vectors.shape} to {texts} texts; "
            "look at the server, or at the setting that names its model",
            reason="WRONG_COUNT",
        )
    if vectors.shape[1] != info.dimensions:
        raise Internal(
            f"the server of {info.name} answered with vectors of {vectors.shape[1]} dimensions where they had "
            f"{info.dimensions}; its model has changed: start the embedder anew, and index again",
            reason="WRONG_DIMENSIONS",
        )
    found = normalised(vectors)
    if not np.isfinite(found).all():
        raise Internal(f"the server of {info.name} answered with values that are no numbers", reason="NOT_FINITE")
    return found


def shared_out(total: int, batch: Sequence[Prepared]) -> list[int]:
    """The tokens of each text where the server tells only their sum: by their estimates, and the sum is kept."""
    estimates = [text.tokens for text in batch]
    if not total or total == sum(estimates):
        return estimates
    edges = np.round(np.cumsum([0, *estimates]) * (total / sum(estimates))).astype(int)
    return [int(count) for count in np.diff(edges)]


async def open_remote(name: str, settings: EmbeddingModelSettings, backend: Backend, retries: Counter) -> RemoteModel:
    """The model, once its server has answered; raises what the last try met. Closes `backend` where it fails."""
    try:
        card, probe = await _meet(settings, backend)
    except BaseException:
        await backend.close()
        raise
    dimensions = probe.vectors.shape[-1]
    if settings.dimensions and settings.dimensions != dimensions:
        await backend.close()
        raise Unavailable(
            f"the server of {name} gives vectors of {dimensions} dimensions, the settings say {settings.dimensions}",
            reason="WRONG_DIMENSIONS",
        )
    query, passage = settings.query_prefix or "", settings.passage_prefix or ""
    identity = "\0".join((settings.kind, card.identity, str(dimensions), query, passage))
    told = card.max_tokens or settings.max_tokens or _MAX_TOKENS
    info = ModelInfo(
        name=name,
        dimensions=dimensions,
        max_tokens=min(settings.max_tokens or told, told),
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        runtime=card.runtime or settings.kind,
        query_prefix=query,
        passage_prefix=passage,
    )
    texts = min(settings.batch_texts, card.max_texts or settings.batch_texts)
    return RemoteModel(
        info, BatchLimits(settings.batch_tokens, texts, settings.connections), backend, settings, retries
    )


def _may_come(error: BaseException) -> bool:
    """Whether waiting may help: a file that cannot be used stays so."""
    return isinstance(error, Exhausted | Unavailable) and error.reason != "MODEL_UNUSABLE"


async def _meet(settings: EmbeddingModelSettings, backend: Backend) -> tuple[Card, Answer]:
    """What the server has, and its vector of one word; waits for a server that is not up yet."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_may_come),
        stop=stop_after_delay(settings.start_limit_s),
        wait=_wait_s,
        sleep=asyncio.sleep,
        reraise=True,
    ):
        with attempt:
            card = await backend.describe()
            (text,) = await backend.count([_PROBE], card.max_tokens or _MAX_TOKENS)
            return card, await backend.embed([text], settings.request_timeout_s)
    raise AssertionError("the last attempt returns or raises")
