"""CreateEmbedding as Envoy calls it, and as OpenAI's own client reads it."""

import json
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api.httpbody_pb2 import HttpBody
from openai.types import CreateEmbeddingResponse

from services.kit.errors import from_rpc
from tests.fakes.embedding_model import INFO, vector_of
from tests.rpc.embedder.conftest import Embedder
from weft.openai.v1 import openai_pb2


async def create(embedder: Embedder, **body: Any) -> CreateEmbeddingResponse:
    answer = await embedder.openai.CreateEmbedding(HttpBody(data=json.dumps(body).encode()))
    assert answer.content_type == "application/json"
    return CreateEmbeddingResponse.model_validate_json(answer.data, strict=True)


async def test_one_string(embedder: Embedder) -> None:
    answer = await create(embedder, input="hello big world", model=INFO.name, dimensions=384)
    assert answer.data[0].embedding == pytest.approx(vector_of("hello big world"), abs=1e-8)
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (INFO.name, 3, 3)


async def test_several_in_order(embedder: Embedder) -> None:
    texts = ["word " * (50 - index) for index in range(50)]
    answer = await create(embedder, input=texts, model=INFO.name, encoding_format="float")
    assert [one.index for one in answer.data] == list(range(50))
    for text, one in zip(texts, answer.data, strict=True):
        assert one.embedding == pytest.approx(vector_of(text), abs=1e-8)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        pytest.param({"input": ""}, grpc.StatusCode.INVALID_ARGUMENT, "input", id="an empty text"),
        pytest.param({"input": []}, grpc.StatusCode.INVALID_ARGUMENT, "input", id="no text"),
        pytest.param({"input": ["a", ""]}, grpc.StatusCode.INVALID_ARGUMENT, "input[1]", id="one of several empty"),
        pytest.param({"input": ["a"] * 2049}, grpc.StatusCode.INVALID_ARGUMENT, "input", id="too many"),
        pytest.param({"input": [1, 2]}, grpc.StatusCode.INVALID_ARGUMENT, "input", id="token ids"),
        pytest.param(
            {"input": "a", "dimensions": 256}, grpc.StatusCode.INVALID_ARGUMENT, "dimensions", id="dimensions"
        ),
        pytest.param({"input": "a", "model": "ada"}, grpc.StatusCode.NOT_FOUND, "model", id="another model"),
    ],
)
async def test_refused(embedder: Embedder, body: dict[str, Any], code: grpc.StatusCode, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(embedder, **{"model": INFO.name, **body})
    error = from_rpc(caught.value)
    assert (error.code, error.field) == (code, field)
    if field == "model":
        assert INFO.name in error.message


async def test_the_routers_methods_are_not_served_here(embedder: Embedder) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embedder.openai.ListModels(openai_pb2.ListModelsRequest())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
