"""OpenAIService, as far as the router serves it; the embedder serves CreateEmbedding."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import grpc.aio
from google.api.httpbody_pb2 import HttpBody

from services.kit.clock import Now
from services.kit.errors import InvalidArgument, NotFound
from services.kit.settings.router import RouterSettings
from services.router.answer import Answer
from services.router.convert import check_chat
from services.router.core.chat import Chat
from services.router.core.table import WorkerTable
from services.router.dispatch import Dispatch
from services.router.openai.clients import JSON, SseClient, WholeClient
from services.router.openai.format import CHAT, TEXT, Shape, model_json
from services.router.openai.requests import ChatCompletionRequest, CompletionRequest, parse
from services.router.outlet import Outlet
from services.router.request_id import new_request_id
from services.router.servicer import deadline_of
from weft.openai.v1 import openai_pb2, openai_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

OTHER_FIELDS_BYTES = 64 * 1024
_STRUCTURE = re.compile(r"sampling\.structure(\.\w+)*")


class OpenAIServicer(openai_pb2_grpc.OpenAIServiceServicer):
    """One object for each way in; `outlet` is what a call of it offers to answers."""

    def __init__(
        self,
        dispatch: Dispatch,
        table: WorkerTable,
        settings: RouterSettings,
        now: Now,
        outlet: Callable[[Any], Outlet],
    ) -> None:
        self._outlet = outlet
        self._dispatch = dispatch
        self._table = table
        self._settings = settings
        self._now = now
        # Text may be twice as long in JSON, by its escapes; the rest is for the other fields.
        self._body_limit_bytes = 2 * settings.max_prompt_bytes + OTHER_FIELDS_BYTES
        self._wall_offset_s = time.time() - now()

    async def CreateChatCompletion(self, request: HttpBody, context: Context) -> None:  # type: ignore[override] # it writes to the context, so that no token passes a generator
        """See openai.proto."""
        body = parse(ChatCompletionRequest, request.data, self._body_limit_bytes)
        await self._answer(body, body.to_chat(), CHAT, context)

    async def CreateCompletion(self, request: HttpBody, context: Context) -> None:  # type: ignore[override] # as above
        """See openai.proto."""
        body = parse(CompletionRequest, request.data, self._body_limit_bytes)
        await self._answer(body, body.to_chat(), TEXT, context)

    async def _answer(
        self, body: ChatCompletionRequest | CompletionRequest, chat: Chat, shape: Shape, context: Context
    ) -> None:
        try:
            check_chat(chat, self._settings)
            await self._run(body, chat, shape, context)
        except InvalidArgument as error:
            # OpenAI's bodies have these fields at their top, and other names for an answer's form.
            message, field = (_renamed(text, body.structure_field) for text in (error.message, error.field))
            raise InvalidArgument(message, reason=error.reason, field=field) from error

    async def _run(
        self, body: ChatCompletionRequest | CompletionRequest, chat: Chat, shape: Shape, context: Context
    ) -> None:
        created_s = int(time.time())
        deadline_s = deadline_of(chat, context, self._settings, self._now())
        if body.stream:
            stream = SseClient(self._outlet(context), shape, created_s, include_usage=body.include_usage)
            await self._dispatch.run(chat, Answer(new_request_id(), stream, self._now), deadline_s)
            return
        whole = WholeClient(shape, created_s)
        await self._dispatch.run(chat, Answer(new_request_id(), whole, self._now), deadline_s)
        await context.write(whole.body())

    async def CreateEmbedding(self, request: HttpBody, context: Context) -> HttpBody:
        """See openai.proto."""
        raise InvalidArgument("the embedder serves this path; ask it, or go through Envoy", reason="WRONG_SERVICE")

    async def ListModels(self, request: openai_pb2.ListModelsRequest, context: Context) -> HttpBody:
        """See openai.proto."""
        models = [self._model(name) for name in sorted(self._table.models)]
        return _json({"object": "list", "data": models})

    async def GetModel(self, request: openai_pb2.GetModelRequest, context: Context) -> HttpBody:
        """See openai.proto."""
        if request.model not in self._table.models:
            known = ", ".join(sorted(self._table.models)) or "none yet"
            text = f"no worker ever served the model {request.model!r}; there are: {known}"
            raise NotFound(text, reason="UNKNOWN_MODEL", field="model")
        return _json(self._model(request.model))

    def _model(self, name: str) -> dict[str, Any]:
        return model_json(name, int(self._table.models[name] + self._wall_offset_s))


def _renamed(text: str, structure_field: str) -> str:
    return _STRUCTURE.sub(structure_field, text).replace("sampling.", "")


def _json(value: Any) -> HttpBody:
    return HttpBody(content_type=JSON, data=json.dumps(value).encode())
