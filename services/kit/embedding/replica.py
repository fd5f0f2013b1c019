"""One embedder of a pool: its channel, what it told of itself, and the calls under way there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import structlog

from services.kit.cancellation import heed_cancellation
from services.kit.channels import dial
from services.kit.clock import Now
from services.kit.embedding.breaker import Breaker
from services.kit.embedding.model import EmbeddingModel, to_model
from services.kit.embedding.pick import Standing, View
from services.kit.errors import DeadlineExceeded, Internal, NotFound, Unavailable, WeftError, from_rpc
from services.kit.settings.shared import GrpcSettings
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc

# Its load comes at least once a second; after three of them without a word it counts as away.
_SILENT_S = 3.0
_REDIAL_S = 0.2
_POLL_S = 0.5
_REDIAL_MAX_S = 2.0
_FAULTS = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
)


class Replica:
    """Watches one embedder for as long as it is open. `admit` says whether the pool takes its model."""

    def __init__(
        self,
        address: str,
        model: str,
        settings: GrpcSettings,
        now: Now,
        admit: Callable[["Replica", EmbeddingModel], bool],
        changed: Callable[[], None],
    ) -> None:
        self.address = address
        self.standing = Standing.UNHEARD
        self.model: EmbeddingModel | None = None
        self.why_away = "it has not answered yet"
        self._name = model
        self._now = now
        self._admit = admit
        self._changed = changed
        self._breaker = Breaker()
        self._load = embedder_pb2.WatchLoadResponse()
        self._sent_tokens = 0.0
        self._scopes: set[asyncio.Timeout] = set()
        self._channel = dial(address, settings)
        self.stub = embedder_pb2_grpc.EmbedderServiceStub(self._channel)
        self._log = structlog.get_logger("embedders")
        self._task = asyncio.create_task(self._watch(), name=f"embedder-{address}")

    def __repr__(self) -> str:
        return f"Replica({self.address} {self.standing.value} {self._breaker!r})"

    async def close(self) -> None:
        """Ends its watch and its channel, and with it every call."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._channel.close()

    @property
    def view(self) -> View:
        """What the choice needs to know."""
        return View(
            address=self.address,
            standing=self.standing,
            lets_through=self._breaker.lets_through(self._now()),
            tokens_ahead=self._load.queued_tokens + self._sent_tokens,
            tokens_per_s=self._load.tokens_per_s,
            under_way=len(self._scopes),
        )

    @property
    def opens_in_s(self) -> float:
        """Seconds until its breaker lets a call through."""
        return self._breaker.opens_in_s(self._now())

    @asynccontextmanager
    async def call(self, tokens: float, silence_s: float) -> AsyncIterator[Callable[[], None]]:
        """Makes a call inside the block; what it gives is to be called whenever the replica has answered something.

        Raises Unavailable where the replica is lost meanwhile or silent for `silence_s`, and otherwise the error that
        the replica's status stands for. `tokens` is what the call brings, as far as it is known.
        """
        loop = asyncio.get_running_loop()
        self._breaker.began(self._now())
        self._sent_tokens += tokens
        try:
            async with asyncio.timeout(silence_s) as scope:
                self._scopes.add(scope)
                try:
                    yield lambda: scope.reschedule(loop.time() + silence_s)
                finally:
                    self._scopes.discard(scope)
        except TimeoutError:
            self._breaker.failed(self._now())
            silent = f"it has been silent for {silence_s:g} s"
            raise self.away(self.why_away if self.standing is Standing.AWAY else silent) from None
        except grpc.aio.AioRpcError as error:
            heed_cancellation(error)
            raise self._told(error) from error
        except Unavailable:
            self._breaker.failed(self._now())
            raise
        self._breaker.succeeded()

    def away(self, why: str) -> Unavailable:
        """What callers are told of this one."""
        return Unavailable(f"the embedder at {self.address} is away ({why})", reason="EMBEDDER_AWAY")

    def _told(self, error: grpc.aio.AioRpcError) -> WeftError:
        if error.code() in _FAULTS:
            self._breaker.failed(self._now())
        said = from_rpc(error)
        # A connection that breaks under a write shows as INTERNAL, too; an embedder's own word has a reason.
        broken = error.code() is grpc.StatusCode.INTERNAL and said.reason == Internal.reason_default
        if broken or error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            told = self.away(error.details() or error.code().name)
            told.retry_delay_s = said.retry_delay_s
            return told
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"the embedder at {self.address} did not answer in time")
        return said

    async def _watch(self) -> None:
        """Asks what it serves, follows its load, and begins again whenever that ends."""
        delay_s = _REDIAL_S
        while True:
            try:
                async with asyncio.timeout(_SILENT_S) as scope:
                    await self._meet()
                    delay_s = _REDIAL_S
                    await self._follow(scope)
            except TimeoutError:
                self._lose(f"it has been silent for {_SILENT_S:g} s")
                continue
            except grpc.aio.AioRpcError as error:
                heed_cancellation(error)
                self._lose(error.details() or error.code().name)
            except WeftError as error:
                self._lose(error.message)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _REDIAL_MAX_S)

    async def _meet(self) -> None:
        request = embedder_pb2.GetModelRequest(model=self._name)
        try:
            # The first time says at once where nobody listens; later the channel's own backoff sets the pace.
            ready = self.standing is not Standing.UNHEARD
            found = to_model(await self.stub.GetModel(request, wait_for_ready=ready))
        except grpc.aio.AioRpcError as error:
            heed_cancellation(error)
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            raise NotFound(error.details() or "it does not serve the model") from error
        self.model = found
        self._stand(found)

    def _stand(self, found: EmbeddingModel) -> None:
        if self._admit(self, found):
            self._set(Standing.SERVING, "")
        else:
            why = f"it serves {found.name} with the fingerprint {found.fingerprint[:12]}, unlike the others"
            self._set(Standing.OTHER_MODEL, why)

    async def _follow(self, scope: asyncio.Timeout) -> None:
        """Reads its load until the stream ends, which raises."""
        loop = asyncio.get_running_loop()
        call: Any = self.stub.WatchLoad(embedder_pb2.WatchLoadRequest())
        try:
            async for load in call:
                scope.reschedule(loop.time() + _SILENT_S)
                self._load, self._sent_tokens = load, 0.0
                if load.draining and self.standing is Standing.SERVING:
                    self._set(Standing.DRAINING, "it is stopping")
                elif self.standing is Standing.OTHER_MODEL and self.model is not None:
                    # The pool takes to this model once those of its own are gone.
                    self._stand(self.model)
            raise Unavailable("it stopped telling its load")
        except grpc.aio.AioRpcError as error:
            heed_cancellation(error)
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            # An embedder of an older version: it is asked what it serves again and again, and its load is unknown.
            await asyncio.sleep(_POLL_S)
        finally:
            call.cancel()

    def _lose(self, why: str) -> None:
        """Nothing can be had there: every call there is ended, so that it goes elsewhere."""
        self._load, self._sent_tokens = embedder_pb2.WatchLoadResponse(), 0.0
        self._set(Standing.AWAY, why)
        now_s = asyncio.get_running_loop().time()
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(now_s)

    def _set(self, standing: Standing, why: str) -> None:
        if standing is not self.standing:
            log = self._log.info if standing is Standing.SERVING else self._log.warning
            log("embedder", address=self.address, standing=standing.value, reason=why)
        self.standing, self.why_away = standing, why
        self._changed()
