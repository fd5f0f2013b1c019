"""The worker's one connection to Triton: is the model ready, what is it, and an answer's stream. It retries nothing."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from services.kit.cancellation import heed_cancellation
from services.kit.plain_text import is_in_the_open, proxy_options
from services.kit.settings.engines.triton import TritonSettings
from services.worker.engines.triton.contract import Contract, read_contract
from services.worker.engines.triton.failures import TritonError

# A response holds one step's text, or a whole answer's log probabilities at the worst.
MESSAGE_BYTES_LIMIT = 16 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_BYTES_LIMIT),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_LIMIT),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Retries have one owner per hop, and that is the router.
    ("grpc.enable_retries", 0),
    # Another engine to the same address has a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
]


class StreamError(Exception):
    """Triton's words for why an answer ended."""


class NotThere(TritonError):
    """Triton answers, and does not know the model."""


class TritonClient:
    """Built and closed by `connect`."""

    def __init__(self, client: Any, settings: TritonSettings) -> None:
        self._client = client
        self.url = settings.url
        self._timeout_s = settings.call_timeout_s
        # gRPC refuses capitals in the names of metadata.
        self._headers = {name.lower(): value for name, value in settings.headers.items()}

    def __repr__(self) -> str:
        return f"TritonClient({self.url})"

    async def unready(self, model: str, version: str) -> str:
        """Why the model cannot work now, in one sentence; empty where it can. Raises TimeoutError.

        A model is ready only on a server that is, whereas a server may be unready for another model's sake.
        """
        try:
            ready = await self._client.is_model_ready(model, version, self._headers, self._timeout_s)
        except InferenceServerException as error:
            heed_cancellation(error)
            if error.status() == "StatusCode.DEADLINE_EXCEEDED":
                raise TimeoutError(f"Triton at {self.url} does not answer") from error
            return f"Triton at {self.url} cannot be reached: {_said(error)}"
        return "" if ready else f"Triton at {self.url} does not have its model {model} ready"

    async def models(self) -> dict[str, str]:
        """The models of its repository, each with why it is not ready, or nothing; none where Triton does not say."""
        try:
            index = await self._client.get_model_repository_index(self._headers, client_timeout=self._timeout_s)
        except InferenceServerException as error:
            heed_cancellation(error)
            return {}
        found: dict[str, str] = {}
        for model in index.models:
            why = "" if model.state == "READY" else _line(model.reason) or model.state.lower() or "not loaded"
            # Of several versions one that works is enough.
            found[model.name] = "" if found.get(model.name, why) == "" else why
        return found

    async def describe(self, model: str, version: str) -> Contract:
        """Raises NotThere for an unknown model, TritonError for one of another kind or where it is not told."""
        try:
            response = await self._client.get_model_config(
                model, version, self._headers, client_timeout=self._timeout_s
            )
        except InferenceServerException as error:
            heed_cancellation(error)
            kind = NotThere if error.status() == "StatusCode.NOT_FOUND" else TritonError
            raise kind(f"Triton at {self.url} does not describe its model {model}: {_said(error)}") from error
        return read_contract(response.config, version)

    @asynccontextmanager
    async def stream(self, contract: Contract, inputs: list[Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """The answer's responses as they come; leaving the block early stops the model's work on it.

        They raise StreamError for an error within the stream, and AioRpcError where the call itself failed.
        """

        async def requests() -> AsyncIterator[dict[str, Any]]:
            # One for each stream: its end is the answer's end, which this client tells in no other way.
            yield {"model_name": contract.model, "model_version": contract.version, "inputs": inputs}

        call = self._client.stream_infer(requests(), headers=self._headers)
        try:
            async with aclosing(_responses(call)) as responses:
                yield responses
        finally:
            call.cancel()


async def _responses(call: Any) -> AsyncGenerator[Any, None]:
    async for result, error in call:
        if error is not None:
            raise StreamError(error.message() or "nothing")
        yield result.get_response()


def _line(text: str) -> str:
    """The first line of what may be a model's whole traceback."""
    return text.strip().partition("\n")[0]


def _said(error: InferenceServerException) -> str:
    return error.message() or error.status() or "no reason given"


@asynccontextmanager
async def connect(settings: TritonSettings) -> AsyncIterator[TritonClient]:
    """The connection, until the block ends; it is made on first use, and again whenever it is lost."""
    if settings.url.startswith(("http:", "https:", "grpc:", "grpcs:")):
        raise TritonError(
            f"worker.triton.url is {settings.url!r} and has to be host:port of Triton's gRPC server, "
            "such as 127.0.0.1:8001"
        )
    if settings.headers and not settings.tls and not settings.allow_plain_text and is_in_the_open(settings.url):
        raise TritonError(
            f"worker.triton.headers would go to {settings.url} in plain text, where others can read them: "
            "set worker.triton.tls, take them out, or set worker.triton.allow_plain_text on a network that you trust"
        )
    options = [*_OPTIONS, *proxy_options(settings.url)]
    client = triton.InferenceServerClient(settings.url, creds=_credentials(settings), channel_args=options)
    try:
        yield TritonClient(client, settings)
    finally:
        await client.close()


def _credentials(settings: TritonSettings) -> grpc.ChannelCredentials | None:
    if not settings.tls:
        if settings.ca_file or settings.cert_file or settings.key_file:
            raise TritonError("worker.triton names certificates and not tls: set worker.triton.tls")
        return None
    if (settings.cert_file is None) is not (settings.key_file is None):
        raise TritonError("worker.triton.cert_file and key_file go together: set both or neither")
    return grpc.ssl_channel_credentials(
        root_certificates=_read("ca_file", settings.ca_file),
        private_key=_read("key_file", settings.key_file),
        certificate_chain=_read("cert_file", settings.cert_file),
    )


def _read(name: str, path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path is not None else None
    except OSError as error:
        raise TritonError(f"cannot read worker.triton.{name} {path}: {error.strerror}") from error
