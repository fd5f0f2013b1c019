"""OpenAI's paths over gRPC: the bodies that an OpenAI client would get through Envoy."""

import json
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api.httpbody_pb2 import HttpBody

from tests.fakes.worker import FakeWorker
from tests.rpc.router.conftest import BOTH_WAYS, Start
from weft.openai.v1 import openai_pb2

pytestmark = BOTH_WAYS

ASK = {"model": "tale", "messages": [{"role": "user", "content": "tell me"}]}


def body(**fields: Any) -> HttpBody:
    return HttpBody(content_type="application/json", data=json.dumps(fields).encode())


async def streamed(call: Any) -> list[Any]:
    """What a client reads out of the event stream: each chunk, the closing [DONE] checked and dropped."""
    data = b"".join([message.data async for message in call]).decode()
    events = [line.removeprefix("data: ") for line in data.split("\n\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


async def test_whole_answer(start: Start) -> None:
    async with start(FakeWorker()) as router:
        (only,) = [message async for message in router.openai.CreateChatCompletion(body(**ASK))]
    answer = json.loads(only.data)
    assert only.content_type == "application/json"
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "once upon a time"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 11
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}


async def test_streamed_answer_with_usage(start: Start) -> None:
    request = body(**ASK, stream=True, stream_options={"include_usage": True})
    async with start(FakeWorker()) as router:
        chunks = await streamed(router.openai.CreateChatCompletion(request))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "once upon a time"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert len({c["id"] for c in chunks}) == 1


async def test_streamed_answer_outlives_its_worker(start: Start) -> None:
    async with start(FakeWorker("w1", die_after=2), FakeWorker("w2")) as router:
        chunks = await streamed(router.openai.CreateChatCompletion(body(**ASK, stream=True)))
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "once upon a time"


async def test_failure_in_the_middle_is_a_chunk(start: Start) -> None:
    async with start(FakeWorker(die_after=2)) as router:
        chunks = await streamed(router.openai.CreateChatCompletion(body(**ASK, stream=True)))
        await router.serving("w1")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.openai.CreateChatCompletion(body(**ASK)).read()
    assert "was lost" in chunks[-1]["error"]["message"]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, "nothing was sent yet, so it is a status"


async def test_text_completion(start: Start) -> None:
    worker = FakeWorker()
    async with start(worker) as router:
        (only,) = [m async for m in router.openai.CreateCompletion(body(model="tale", prompt="once"))]
        chunks = await streamed(router.openai.CreateCompletion(body(model="tale", prompt=["once"], stream=True)))
    assert json.loads(only.data)["choices"][0]["text"] == "once upon a time"
    assert "".join(c["choices"][0]["text"] for c in chunks) == "once upon a time"
    assert worker.starts[0].prompt.text == "once"


async def test_parts_and_parameters_reach_the_worker(start: Start) -> None:
    worker = FakeWorker()
    content = [{"type": "text", "text": "tell "}, {"type": "text", "text": "me"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": content}]
    async with start(worker) as router:
        request = body(messages=messages, temperature=0, max_completion_tokens=9, stop="end", seed=4, unknown=1)
        assert [m async for m in router.openai.CreateChatCompletion(request)]
    sent = worker.starts[0]
    assert [m.content for m in sent.prompt.conversation.messages] == ["be brief", "tell me"]
    sampling = sent.sampling
    assert (sampling.temperature, sampling.max_tokens, list(sampling.stop), sampling.seed) == (0, 9, ["end"], 4)


@pytest.mark.parametrize(
    ("request_body", "word"),
    [
        pytest.param(HttpBody(data=b"{"), "body", id="no JSON"),
        pytest.param(body(model="tale"), "messages", id="no messages"),
        pytest.param(body(messages=[{"role": "king", "content": "x"}]), "messages.0.role", id="role"),
        pytest.param(
            body(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "messages.0.content", id="image"
        ),
        pytest.param(body(**ASK, temperature=9), "temperature", id="temperature"),
        pytest.param(body(**ASK, n=2), "n is 2", id="n"),
        pytest.param(body(**ASK, tools=[{}]), "tools", id="tools"),
        pytest.param(body(**ASK, response_format={"type": "json_object"}), "response_format", id="response format"),
    ],
)
async def test_wrong_body_is_named(start: Start, request_body: HttpBody, word: str) -> None:
    async with start(FakeWorker()) as router:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.openai.CreateChatCompletion(request_body).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert word in (caught.value.details() or "")


async def test_models(start: Start) -> None:
    async with start(FakeWorker()) as router:
        listed = await router.models.ListModels(openai_pb2.ListModelsRequest())
        one = await router.models.GetModel(openai_pb2.GetModelRequest(model="tale"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.models.GetModel(openai_pb2.GetModelRequest(model="nobody"))
    assert [m["id"] for m in json.loads(listed.data)["data"]] == ["tale"]
    assert json.loads(one.data)["object"] == "model"
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
