"""A stand-in for the mesh behind Envoy: every service on one port, with answers that tests choose."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from google.api import httpbody_pb2

from services.kit.admin import AdminServer
from services.kit.errors import Exhausted, InvalidArgument, NotFound, WeftError
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from services.kit.telemetry import new_registry
from weft.chat.v1 import chat_pb2
from weft.openai.v1 import openai_pb2_grpc
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from weft.router.v1 import router_pb2, router_pb2_grpc
from weft.worker.v1 import worker_pb2, worker_pb2_grpc

SERVICES = [
    "weft.router.v1.RouterService",
    "weft.retriever.v1.RetrieverService",
    "weft.openai.v1.OpenAIService",
    "weft.worker.v1.WorkerService",
]
WORDS = ["The ", "front ", "door."]


def _error_for(model: str) -> WeftError | None:
    return {
        "missing": NotFound("no worker ever served `missing`: ask for another model", reason="MODEL_UNKNOWN"),
        "full": Exhausted("every worker is full: try again in 2 s", retry_delay_s=2.0),
        "wrong": InvalidArgument("sampling.temperature: at most 2, and not 9", field="sampling.temperature"),
    }.get(model)


class FakeRouter(router_pb2_grpc.RouterServiceServicer):
    """Answers every chat with WORDS; the second word waits until `more` is set."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.more.set()
        self.chats: list[router_pb2.StreamChatRequest] = []
        self.cancelled = asyncio.Event()
        self.workers = [
            router_pb2.Worker(worker_id="worker-0", model="fake", state=router_pb2.Worker.STATE_SERVING, restarts=1),
            router_pb2.Worker(worker_id="worker-1", model="fake", state=router_pb2.Worker.STATE_AWAY),
        ]

    async def StreamChat(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        if error := _error_for(request.model):
            raise error
        self.chats.append(request)
        try:
            async for event in self._answer(request):
                await context.write(event)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _answer(self, request: router_pb2.StreamChatRequest) -> AsyncIterator[router_pb2.StreamChatResponse]:
        accepted = router_pb2.Accepted(request_id="r1", worker_id="worker-0", model="fake")
        yield router_pb2.StreamChatResponse(accepted=accepted)
        if request.HasField("retrieval"):
            yield router_pb2.StreamChatResponse(passages=router_pb2.Passages(passages=PASSAGES))
        for index, word in enumerate(WORDS):
            if index == 1:
                await self.more.wait()
            cited = " [1]" if request.HasField("retrieval") and index == len(WORDS) - 1 else ""
            tokens = router_pb2.Tokens(text=word + cited, index=index, token_ids=[index])
            yield router_pb2.StreamChatResponse(tokens=tokens)
        yield router_pb2.StreamChatResponse(finished=router_pb2.Finished(reason=1, worker_id="worker-0", attempts=1))

    async def Converse(self, requests: AsyncIterator[router_pb2.ConverseRequest], context: Any) -> None:
        turn = 0

        async def answer() -> None:
            async for event in self._answer(router_pb2.StreamChatRequest()):
                await context.write(router_pb2.ConverseResponse(turn=turn, event=event))

        task: asyncio.Task[None] | None = None
        async for request in requests:
            if request.HasField("turn"):
                turn += 1
                task = asyncio.create_task(answer())
            elif request.HasField("cancel") and task:
                task.cancel()
                finished = router_pb2.Finished(reason=chat_pb2.FINISH_REASON_CANCELLED)
                event = router_pb2.StreamChatResponse(finished=finished)
                await context.write(router_pb2.ConverseResponse(turn=turn, event=event))
        if task:
            await asyncio.wait([task])

    async def ListWorkers(self, request: router_pb2.ListWorkersRequest, context: Any) -> router_pb2.ListWorkersResponse:
        return router_pb2.ListWorkersResponse(workers=self.workers)

    async def ListModels(self, request: router_pb2.ListModelsRequest, context: Any) -> router_pb2.ListModelsResponse:
        return router_pb2.ListModelsResponse(models=[router_pb2.Model(name="fake", serving_workers=1)])

    async def RegisterWorker(
        self, request: router_pb2.RegisterWorkerRequest, context: Any
    ) -> router_pb2.RegisterWorkerResponse:
        return router_pb2.RegisterWorkerResponse(router_id="fake")


PASSAGES = [
    retriever_pb2.Passage(title="Guide", source="guide.md", heading_path=["Setup", "Linux"], text="…", page=3),
    retriever_pb2.Passage(title="Notes", source="notes.md", text="…"),
]


class FakeOpenAI(openai_pb2_grpc.OpenAIServiceServicer):
    """Answers chat completions with WORDS, streamed or whole; the second chunk waits until `more` is set."""

    def __init__(self, more: asyncio.Event) -> None:
        self._more = more

    async def CreateChatCompletion(self, request: httpbody_pb2.HttpBody, context: Any) -> None:
        asked = json.loads(request.data)
        if error := _error_for(asked["model"]):
            raise error
        base = {"id": "c1", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
            body = json.dumps(base | {"object": "chat.completion", "choices": [choice]}).encode()
            await context.write(httpbody_pb2.HttpBody(content_type="application/json", data=body))
            return
        for index, word in enumerate(WORDS):
            if index == 1:
                await self._more.wait()
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            chunk = json.dumps(base | {"object": "chat.completion.chunk", "choices": [choice]})
            data = f"data: {chunk}\n\n".encode()
            await context.write(httpbody_pb2.HttpBody(content_type="text/event-stream", data=data))
        await context.write(httpbody_pb2.HttpBody(content_type="text/event-stream", data=b"data: [DONE]\n\n"))

    async def GetModel(self, request: Any, context: Any) -> httpbody_pb2.HttpBody:
        raise NotFound(f"no worker ever served `{request.model}`")

    async def ListModels(self, request: Any, context: Any) -> httpbody_pb2.HttpBody:
        model = {"id": "fake", "object": "model", "created": 1, "owned_by": "weft"}
        data = json.dumps({"object": "list", "data": [model]}).encode()
        return httpbody_pb2.HttpBody(content_type="application/json", data=data)


class FakeRetriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """Takes every document in, except sources that hold `bad`."""

    def __init__(self) -> None:
        self.documents: list[retriever_pb2.IngestDocumentsRequest] = []

    async def IngestDocuments(
        self, requests: AsyncIterator[retriever_pb2.IngestDocumentsRequest], context: Any
    ) -> None:
        position = 0
        async for request in requests:
            self.documents.append(request)
            answer = retriever_pb2.IngestDocumentsResponse(
                position=position, source=request.document.source, status=1, chunks=2
            )
            if "bad" in request.document.source:
                answer.status = retriever_pb2.IngestDocumentsResponse.STATUS_FAILED
                answer.chunks = 0
                answer.failure.message = "the file is no PDF: save it again"
            await context.write(answer)
            position += 1

    async def ListIndexes(self, request: retriever_pb2.ListIndexesRequest, context: Any) -> Any:
        return retriever_pb2.ListIndexesResponse(indexes=[retriever_pb2.Index(name="house", documents=1)])

    async def ListDocuments(self, request: retriever_pb2.ListDocumentsRequest, context: Any) -> Any:
        # Nothing is there yet, so everything has to be sent.
        return retriever_pb2.ListDocumentsResponse()

    async def GetDocument(self, request: retriever_pb2.GetDocumentRequest, context: Any) -> Any:
        record = retriever_pb2.DocumentRecord(document_id=request.document_id, title=request.index)
        return retriever_pb2.GetDocumentResponse(document=record)


class FakeWorker(worker_pb2_grpc.WorkerServiceServicer):
    """Generates nothing but an end."""

    async def Generate(self, request: worker_pb2.GenerateRequest, context: Any) -> None:
        await context.write(worker_pb2.GenerateResponse(ended=worker_pb2.Ended()))


class FakeMesh:
    """Every service on one port; `port` is set by `start`."""

    def __init__(self) -> None:
        self.router = FakeRouter()
        self.retriever = FakeRetriever()
        self.port = 0
        registry = new_registry()
        self._admin = AdminServer("127.0.0.1", 0, registry, lambda: "")
        self.admin_port = self._admin.port
        self._server = GrpcServer("127.0.0.1:0", SERVICES, Settings().grpc, registry)
        router_pb2_grpc.add_RouterServiceServicer_to_server(self.router, self._server.grpc)
        openai_pb2_grpc.add_OpenAIServiceServicer_to_server(FakeOpenAI(self.router.more), self._server.grpc)
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(self.retriever, self._server.grpc)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(FakeWorker(), self._server.grpc)

    async def start(self) -> None:
        """Listens, and says SERVING."""
        self.port = await self._server.start()
        await self._server.serving(True)

    async def stop(self) -> None:
        """Ends every call."""
        await self._server.stop(0)
        self._admin.stop()
