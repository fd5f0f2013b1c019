"""OpenAI's `/v1/embeddings`, as JSON in HttpBody. The other methods of OpenAIService are the router's."""

from typing import Any

import grpc
import grpc.aio
from google.api.httpbody_pb2 import HttpBody

from services.embedder.catalogue import Catalogue
from services.embedder.limits import TextLimits
from services.embedder.openai_body import parse_request, render_response
from services.embedder.servicer import deadline_s
from services.kit.clock import Now
from services.kit.errors import InvalidArgument

SERVICE = "weft.openai.v1.OpenAIService"

Context = grpc.aio.ServicerContext[Any, Any]


class EmbeddingsServicer:
    """One object for the whole process."""

    def __init__(self, catalogue: Catalogue, limits: TextLimits, now: Now) -> None:
        self._catalogue = catalogue
        self._limits = limits
        self._now = now

    def handler(self) -> grpc.GenericRpcHandler:
        """Serves this one method of OpenAIService; gRPC answers UNIMPLEMENTED for the others."""
        method = grpc.unary_unary_rpc_method_handler(
            self.CreateEmbedding,
            request_deserializer=HttpBody.FromString,
            response_serializer=HttpBody.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"CreateEmbedding": method})

    async def CreateEmbedding(self, request: HttpBody, context: Context) -> HttpBody:
        """See openai.proto."""
        body = parse_request(request.data)
        batcher = self._catalogue.find(body.model)
        info = batcher.model.info
        if body.dimensions not in (None, info.dimensions):
            raise InvalidArgument(
                f"{info.name} gives vectors of {info.dimensions} dimensions and no others; leave dimensions out",
                reason="DIMENSIONS",
                field="dimensions",
            )
        if isinstance(body.input, str):
            self._limits.check(body.input, "input")
        else:
            self._limits.check_all(body.texts, "input")
        # OpenAI's API does not say what a text is for; who sends one alone is waiting for it, as a search does.
        found = await batcher.embed(body.texts, query=len(body.texts) == 1, deadline_s=deadline_s(context, self._now))
        return HttpBody(content_type="application/json", data=render_response(found, body, info))
