"""A model of a Triton server that takes texts and gives vectors; the tensors' names are settings."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from services.embedder.models.remote.backend import Answer, Card
from services.embedder.models.remote.http import estimated
from services.embedder.ports import Prepared
from services.kit.cancellation import heed_cancellation
from services.kit.errors import Exhausted, Internal, InvalidArgument, Unavailable, WeftError
from services.kit.plain_text import proxy_options
from services.kit.settings.embedder import EmbeddingModelSettings

_DESCRIBE_S = 5.0
# A request holds the texts of one batch, an answer their vectors.
_MESSAGE_BYTES_LIMIT = 64 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES_LIMIT),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_LIMIT),
    # A server that comes back is found within a second, whatever the time that it was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Retries have one owner, and that is RemoteModel.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class TritonBackend:
    """The input is BYTES of shape [texts, 1] where the model batches, and [texts] otherwise."""

    def __init__(self, name: str, settings: EmbeddingModelSettings) -> None:
        self._name = name
        self._settings = settings
        self._remote = settings.remote_name or name
        root = settings.ca_file.read_bytes() if settings.ca_file else None
        credentials = grpc.ssl_channel_credentials(root) if settings.tls else None
        options = [*_OPTIONS, *proxy_options(settings.url)]
        self._client: Any = triton.InferenceServerClient(settings.url, creds=credentials, channel_args=options)
        self._batches = False

    async def describe(self) -> Card:
        try:
            found = await self._client.get_model_config(self._remote, client_timeout=_DESCRIBE_S)
        except InferenceServerException as error:
            heed_cancellation(error)
            raise self._told(error) from error
        config = found.config
        names = {one.name for one in config.input}, {one.name for one in config.output}
        own = self._settings
        if own.input_tensor not in names[0] or own.output_tensor not in names[1]:
            raise Internal(
                f"Triton's model {self._remote} has the inputs {sorted(names[0])} and the outputs {sorted(names[1])}; "
                f"set input_tensor and output_tensor, which are {own.input_tensor} and {own.output_tensor}",
                reason="WRONG_TENSORS",
            )
        self._batches = config.max_batch_size > 0
        return Card(identity=self._remote, max_texts=config.max_batch_size, runtime=f"triton {self._remote}")

    async def count(self, texts: Sequence[str], max_tokens: int) -> list[Prepared]:
        return estimated(texts, max_tokens)

    async def embed(self, batch: Sequence[Prepared], timeout_s: float) -> Answer:
        texts = np.array([text.text.encode() for text in batch], np.object_)
        if self._batches:
            texts = texts[:, None]
        given = triton.InferInput(self._settings.input_tensor, list(texts.shape), "BYTES")
        given.set_data_from_numpy(texts)
        wanted = triton.InferRequestedOutput(self._settings.output_tensor)
        try:
            result = await self._client.infer(self._remote, [given], outputs=[wanted], client_timeout=timeout_s)
        except InferenceServerException as error:
            heed_cancellation(error)
            raise self._told(error) from error
        found = result.as_numpy(self._settings.output_tensor)
        if found is None:
            raise Internal(
                f"Triton's model {self._remote} gave no {self._settings.output_tensor}", reason="REMOTE_ANSWER"
            )
        return Answer(np.asarray(found, np.float32))

    async def reach(self) -> None:
        try:
            ready = await self._client.is_model_ready(self._remote, client_timeout=_DESCRIBE_S)
        except InferenceServerException as error:
            heed_cancellation(error)
            raise self._told(error) from error
        if not ready:
            message = f"Triton at {self._settings.url} does not have its model {self._remote} ready"
            raise Unavailable(message, reason="REMOTE_AWAY")

    async def close(self) -> None:
        await self._client.close()

    def _told(self, error: InferenceServerException) -> WeftError:
        status = str(error.status() or "")
        said = f"Triton at {self._settings.url} says of {self._remote}: {error.message()}"
        if status.endswith(("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")):
            return Unavailable(said, reason="REMOTE_AWAY")
        if status.endswith("RESOURCE_EXHAUSTED"):
            return Exhausted(said, reason="REMOTE_FULL")
        if status.endswith("INVALID_ARGUMENT"):
            return InvalidArgument(said, reason="REMOTE_REFUSED", field="text")
        return Internal(said, reason="REMOTE_FAILED")
