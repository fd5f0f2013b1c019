"""Calls to a Qdrant server: retried where that may help, and their failures as this service's own errors."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from services.kit.errors import Exhausted, Internal, Unavailable, WeftError
from services.kit.plain_text import is_this_machine, proxy_options
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.absence import no_collection
from services.retriever.stores.reach import Reach

_RETRY_DELAY_S = 1.0
_ATTEMPTS = 3
_FIRST_WAIT_S, _MAX_WAIT_S = 0.05, 1.0
_HTTP_NOT_FOUND, _HTTP_FULL = 404, 429
_HTTP_AWAY = (502, 503, 504)
_GRPC_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Answer = TypeVar("Answer")


def client_of(settings: RetrieverSettings) -> AsyncQdrantClient:
    """A client of the server that the settings name; it connects with its first call."""
    url = settings.qdrant_url.get_secret_value()
    return AsyncQdrantClient(
        url=url,
        port=urlsplit(url).port or 6333,
        grpc_port=settings.qdrant_grpc_port,
        prefer_grpc=True,
        api_key=settings.qdrant_api_key.get_secret_value() or None,
        timeout=int(settings.store_timeout_s),
        # It would ask the server at once, and block.
        check_compatibility=False,
        # What stays on this machine goes through no proxy that the environment names.
        trust_env=not is_this_machine(url),
        grpc_options=dict(proxy_options(url)),
    )


class QdrantServer:
    """Every call goes through `call`. `close` ends the client."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self.client = client
        self.reach = Reach("qdrant", self._probe)

    def __repr__(self) -> str:
        return f"QdrantServer({self.reach!r})"

    async def call(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `ask` gives; it is asked again where the server was away, so asking twice must change nothing more."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_passing),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=_FIRST_WAIT_S, max=_MAX_WAIT_S, jitter=_FIRST_WAIT_S),
            reraise=True,
        )

        async def once() -> Answer:
            return await ask()

        try:
            return await retrying(once)
        except WeftError:
            raise
        except Exception as error:
            raise self._told(error) from error

    async def close(self) -> None:
        """Ends the client."""
        await self.reach.close()
        await self.client.close()

    def _told(self, error: Exception) -> WeftError:
        if _is_missing(error):
            return no_collection("of that name")
        if _is_full(error):
            return Exhausted(
                "Qdrant takes no more for now; try again", reason="STORE_QUEUE_FULL", retry_delay_s=_RETRY_DELAY_S
            )
        if _is_passing(error):
            self.reach.lost()
            return Unavailable(
                f"Qdrant does not answer ({type(error).__name__}); try again",
                reason="STORE_AWAY",
                retry_delay_s=_RETRY_DELAY_S,
            )
        if isinstance(error, (UnexpectedResponse, grpc.aio.AioRpcError, ValueError)):
            return Internal(f"Qdrant refused: {str(error)[:300]}", reason="STORE_FAILED")
        raise error

    async def _probe(self) -> None:
        await self.client.get_collections()


def _is_missing(error: BaseException) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == _HTTP_NOT_FOUND
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() is grpc.StatusCode.NOT_FOUND
    # This is how the client's local mode says it.
    return isinstance(error, ValueError) and "not found" in str(error)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == _HTTP_FULL
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return isinstance(error, ResourceExhaustedResponse)


def _is_passing(error: BaseException) -> bool:
    """Whether the same may work in a moment."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _HTTP_AWAY
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() in _GRPC_AWAY
    return isinstance(error, (ResponseHandlingException, OSError))
