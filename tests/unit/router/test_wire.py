"""Messages that are written by hand for every token: they read as what protobuf would have written."""

import json
import random

import pytest
from google.api.httpbody_pb2 import HttpBody

from services.router.openai.clients import sse_bytes
from services.router.openai.format import CHAT, TEXT, Chunks, Shape
from services.router.wire import tokens_bytes, varint
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.router.v1 import router_pb2

CHANCE = random.Random(7)
TEXTS = ["", "a", " upon", "ü", "日本語", '\0\n"\\\u2028', "🎈", "x" * 127, "x" * 128, "y" * 20_000]
NUMBERS = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 2**32 - 1]


def tokens(text: str, index: int, ids: list[int], logprobs: list[TokenLogprob]) -> router_pb2.StreamChatResponse:
    return router_pb2.StreamChatResponse(
        tokens=router_pb2.Tokens(text=text, index=index, token_ids=ids, logprobs=logprobs)
    )


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_tokens(text: str) -> None:
    for index in NUMBERS:
        for ids in ([], [0], [CHANCE.choice(NUMBERS)], CHANCE.choices(NUMBERS, k=200)):
            for logprobs in ([], [TokenLogprob(text=text, logprob=-0.5)]):
                data = tokens_bytes(text, index, ids, logprobs)
                assert router_pb2.StreamChatResponse.FromString(data) == tokens(text, index, ids, logprobs)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers(number: int) -> None:
    assert router_pb2.Tokens.FromString(b"\x10" + varint(number)).index == number


@pytest.mark.parametrize("shape", [CHAT, TEXT], ids=["chat", "text"])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_events(text: str, shape: Shape) -> None:
    chunks = Chunks(shape, "r", "model", 1)
    body = HttpBody.FromString(sse_bytes(chunks.tokens(text, [])))
    assert body.content_type == "text/event-stream"
    assert body.data.startswith(b"data: ")
    assert body.data.endswith(b"\n\n")
    choice = json.loads(body.data[6:])["choices"][0]
    assert (choice["delta"]["content"] if shape is CHAT else choice["text"]) == text
