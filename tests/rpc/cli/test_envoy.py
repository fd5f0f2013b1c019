"""What callers notice of Envoy: paths, errors, streams, and the calls that stay inside the mesh."""

import asyncio
import json

import grpc
import grpc.aio
import httpx
import openai
import pytest

from tests.rpc.cli.conftest import Front
from tests.rpc.cli.fake_mesh import WORDS
from weft.chat.v1 import chat_pb2
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from weft.router.v1 import router_pb2, router_pb2_grpc
from weft.worker.v1 import worker_pb2_grpc

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = {"messages": [{"content": "hi"}]}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param("/healthz", "ok", id="Envoy itself"),
        pytest.param("/readyz", "ready", id="the router's readiness"),
        pytest.param("/metrics", "# HELP", id="the router's metrics"),
        pytest.param("/v1/workers", '"state":"STATE_SERVING"', id="names as in the protos"),
        pytest.param("/v1/models", '"object": "list"', id="OpenAI's models"),
        pytest.param("/v1/documents/a?index=notes", '"title":"notes"', id="query parameters"),
    ],
)
async def test_get(front: Front, path: str, text: str) -> None:
    async with httpx.AsyncClient(base_url=front.url) as client:
        response = await client.get(path)
    assert response.status_code == 200
    assert text in response.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "message"),
    [
        pytest.param("GET", "/nope", None, 404, 5, "nothing is served here", id="no such path"),
        pytest.param("GET", "/v1/chat", None, 404, 5, "with this method", id="wrong method"),
        pytest.param("GET", "/v1/workers?modle=x", None, 400, 3, 'field "modle"', id="misspelt query parameter"),
        pytest.param("POST", "/v1/chat", '{"mess', 400, 3, "Closing quote", id="broken JSON"),
        pytest.param("POST", "/v1/chat", '{"messages":[{"role":"x"}]}', 400, 3, "messages[0].role", id="wrong enum"),
        pytest.param(
            "POST", "/v1/chat", '{"model":"missing"}', 404, 5, "no worker ever served", id="a service's error"
        ),
        pytest.param("POST", "/v1/chat", '{"model":"wrong"}', 400, 3, "temperature", id="a field is named"),
        pytest.param(
            "POST",
            "/weft.router.v1.RouterService/RegisterWorker",
            "{}",
            403,
            7,
            "inside the mesh",
            id="a call of the mesh's own",
        ),
    ],
)
async def test_errors_are_json_in_words(
    front: Front, method: str, path: str, body: str | None, status: int, code: int, message: str
) -> None:
    async with httpx.AsyncClient(base_url=front.url) as client:
        response = await client.request(method, path, content=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json()["code"] == code
    assert message in response.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        pytest.param("POST", "/v1/chat/completions", {"model": "missing"}, 404, "no worker ever", id="a service's"),
        pytest.param("POST", "/v1/embeddings", {"model": "m"}, 503, "is away", id="Envoy's own"),
        pytest.param("PUT", "/v1/models", {}, 404, "with this method", id="wrong method"),
        pytest.param("GET", "/v1/models?x=1", None, 400, 'field "x"', id="wrong query"),
        pytest.param("GET", "/v1/models/org/nope", None, 404, "`org/nope`", id="a name with a slash"),
    ],
)
async def test_errors_on_openai_paths_have_openai_form(
    front: Front, method: str, path: str, body: object, status: int, message: str
) -> None:
    async with httpx.AsyncClient(base_url=front.url) as client:
        response = await client.request(method, path, json=body)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert message in response.json()["error"]["message"]


async def test_a_full_mesh_is_429_with_retry_after_and_details(front: Front) -> None:
    async with httpx.AsyncClient(base_url=front.url) as client:
        response = await client.post("/v1/chat", json={"model": "full"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "2"
    assert [detail["@type"].rpartition(".")[2] for detail in response.json()["details"]] == [
        "ErrorInfo",
        "RetryInfo",
        "QuotaFailure",
    ]


async def test_a_service_that_is_away_is_503_with_retry_after(front: Front) -> None:
    async with httpx.AsyncClient(base_url=front.url) as client:
        response = await client.post("/v1/embeddings", json={"model": "m", "input": "x"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


async def test_chat_streams_as_server_sent_events_and_holds_nothing_back(front: Front) -> None:
    more = front.mesh.router.more
    more.clear()
    events = []
    async with (
        httpx.AsyncClient(base_url=front.url) as client,
        client.stream("POST", "/v1/chat", json=CHAT) as response,
        asyncio.timeout(10),
    ):
        assert response.headers["content-type"] == "text/event-stream"
        async for line in response.aiter_lines():
            if line:
                assert line.startswith("data: ")
                events.append(json.loads(line.removeprefix("data: ")))
            if "tokens" in (events or [{}])[-1]:
                # The second word is not even asked for before the first has arrived here.
                more.set()
    assert [event["tokens"].get("index", 0) for event in events if "tokens" in event] == [0, 1, 2]
    assert next(iter(events[-1])) == "finished"


@pytest.mark.parametrize(
    ("written", "role"),
    [
        pytest.param("user", chat_pb2.ROLE_USER, id="as OpenAI's clients write it"),
        pytest.param("system", chat_pb2.ROLE_SYSTEM, id="system"),
        pytest.param("assistant", chat_pb2.ROLE_ASSISTANT, id="assistant"),
        pytest.param("Tool", chat_pb2.ROLE_TOOL, id="in any case"),
        pytest.param("ROLE_USER", chat_pb2.ROLE_USER, id="as in the proto"),
    ],
)
async def test_roles_may_be_written_short(front: Front, written: str, role: int) -> None:
    async with httpx.AsyncClient(base_url=front.url) as client:
        response = await client.post("/v1/chat", json={"messages": [{"role": written, "content": "hi"}]})
    assert response.status_code == 200, response.text
    assert front.mesh.router.chats[-1].messages[0].role == role


async def test_a_client_that_leaves_cancels_the_call(front: Front) -> None:
    front.mesh.router.more.clear()
    front.mesh.router.cancelled.clear()
    async with httpx.AsyncClient(base_url=front.url) as client:
        async with client.stream("POST", "/v1/chat", json=CHAT) as response:
            async for line in response.aiter_lines():
                if "tokens" in line:
                    break
        async with asyncio.timeout(5):
            await front.mesh.router.cancelled.wait()
    front.mesh.router.more.set()


async def test_the_openai_client_reads_answers_whole_and_streamed(front: Front) -> None:
    async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.chat.completions.create(model="m", messages=[])
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        words = [chunk.choices[0].delta.content async for chunk in stream]
        models = await client.models.list()
    assert whole.choices[0].message.content == "".join(WORDS)
    assert words == WORDS
    assert [model.id for model in models.data] == ["fake"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        pytest.param("missing", openai.NotFoundError, "no worker ever served `missing`", id="unknown model"),
        pytest.param("wrong", openai.BadRequestError, "at most 2, and not 9", id="wrong request"),
        pytest.param("full", openai.RateLimitError, "every worker is full", id="overloaded"),
    ],
)
async def test_the_openai_client_raises_its_own_errors(
    front: Front, model: str, kind: type[openai.APIStatusError], words: str, stream: bool
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(kind, match=words):
            await client.chat.completions.create(model=model, messages=[], stream=stream)


async def test_bodies_over_a_mebibyte_pass(front: Front) -> None:
    text = "word " * 1_000_000
    body = [{"document": {"source": "large.md", "text": text}}]
    async with httpx.AsyncClient(base_url=front.url, timeout=30) as client:
        response = await client.post("/v1/documents", json=body)
    assert response.status_code == 200
    assert '"status":"STATUS_INDEXED"' in response.text
    assert front.mesh.retriever.documents[-1].document.text == text


async def test_grpc_passes_on_the_same_port(front: Front) -> None:
    async with grpc.aio.insecure_channel(front.target) as channel:
        router = router_pb2_grpc.RouterServiceStub(channel)
        events = [event async for event in router.StreamChat(router_pb2.StreamChatRequest())]
        documents = retriever_pb2_grpc.RetrieverServiceStub(channel).IngestDocuments()
        await documents.write(retriever_pb2.IngestDocumentsRequest())
        # Answered before the client has half-closed: the stream goes both ways at the same time.
        answer = await documents.read()
        await documents.done_writing()
    assert "".join(event.tokens.text for event in events) == "".join(WORDS)
    assert isinstance(answer, retriever_pb2.IngestDocumentsResponse)


async def test_calls_of_the_mesh_are_refused_at_the_edge(front: Front) -> None:
    async with grpc.aio.insecure_channel(front.target) as channel:
        router = router_pb2_grpc.RouterServiceStub(channel)
        worker = worker_pb2_grpc.WorkerServiceStub(channel)
        calls = (
            router.RegisterWorker(router_pb2.RegisterWorkerRequest()),
            router.DrainWorker(router_pb2.DrainWorkerRequest()),
            worker.Attach(),
        )
        refusals = [(await call.code(), await call.details()) for call in calls]
    sentence = "this call belongs inside the mesh: make it at the service's own port"
    assert refusals == [(grpc.StatusCode.PERMISSION_DENIED, sentence)] * 3


async def test_grpc_callers_learn_that_a_service_is_away(front: Front) -> None:
    async with grpc.aio.insecure_channel(front.target) as channel:
        embedder = embedder_pb2_grpc.EmbedderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await embedder.GetModel(embedder_pb2.GetModelRequest())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "{" not in (caught.value.details() or "")


async def test_a_caller_cannot_ask_envoy_to_retry_or_to_hurry(front: Front) -> None:
    headers = {"x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3"}
    before = len(front.mesh.router.chats)
    async with httpx.AsyncClient(base_url=front.url, headers=headers) as client:
        response = await client.post("/v1/chat", json=CHAT)
    assert response.status_code == 200
    assert len(front.mesh.router.chats) == before + 1
