"""OpenAI's JSON: what is taken, what is refused and with which field, and what goes out."""

import base64
import json

import numpy as np
import pytest

from services.embedder.openai_body import EmbeddingsRequest, parse_request, render_response
from services.embedder.ports import Embedded
from services.kit.errors import InvalidArgument
from tests.fakes.embedding_model import INFO

VECTOR = np.array([0.6, -0.8, 1e-10], np.float32)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        pytest.param({"input": "a", "model": "m"}, ["a"], id="one string"),
        pytest.param({"input": ["a", "b"], "model": "m"}, ["a", "b"], id="several"),
        pytest.param({"input": "", "model": "m"}, [""], id="an empty one is for the limits"),
        pytest.param({"input": [], "model": "m"}, [], id="none is for the limits"),
        pytest.param({"input": "a", "model": "m", "user": "u", "new": {}}, ["a"], id="unknown fields"),
        pytest.param({"input": "a", "model": "m", "dimensions": None}, ["a"], id="dimensions null"),
    ],
)
def test_what_is_taken(body: dict[str, object], texts: list[str]) -> None:
    assert parse_request(json.dumps(body).encode()).texts == texts


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        pytest.param("{", "", "not JSON", id="not JSON"),
        pytest.param("", "", "not JSON", id="empty"),
        pytest.param("[1]", "", "the body", id="no object"),
        pytest.param('{"input": "a"}', "model", "required", id="no model"),
        pytest.param('{"input": "a", "model": ""}', "model", "at least 1", id="empty model"),
        pytest.param('{"model": "m"}', "input", "required", id="no input"),
        pytest.param('{"model": "m", "input": 5}', "input", "string", id="a number"),
        pytest.param('{"model": "m", "input": null}', "input", "string", id="null"),
        pytest.param('{"model": "m", "input": {}}', "input", "string", id="an object"),
        pytest.param('{"model": "m", "input": ["a", 5]}', "input[1]", "string", id="a number among texts"),
        pytest.param('{"model": "m", "input": [true]}', "input[0]", "string", id="a truth value"),
        pytest.param('{"model": "m", "input": [1, 2]}', "input", "token ids", id="token ids"),
        pytest.param('{"model": "m", "input": [[1], [2]]}', "input", "token ids", id="lists of token ids"),
        pytest.param('{"model": "m", "input": [[]]}', "input", "token ids", id="an empty list of token ids"),
        pytest.param('{"model": "m", "input": [1, "a"]}', "input", "token ids", id="token ids and text"),
        pytest.param('{"model": "m", "input": "a", "encoding_format": "hex"}', "encoding_format", "float", id="format"),
        pytest.param('{"model": "m", "input": "a", "dimensions": "x"}', "dimensions", "integer", id="dimensions"),
        pytest.param('{"model": "m", "input": "\\ud800"}', "", "not JSON", id="half a surrogate pair"),
    ],
)
def test_what_is_refused(body: str, field: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_request(body.encode())
    assert caught.value.field == field
    assert says in caught.value.message


def test_floats() -> None:
    found = [Embedded(VECTOR, 4, False), Embedded(VECTOR, 256, True)]
    answer = json.loads(render_response(found, EmbeddingsRequest(input="a", model="m"), INFO))
    assert answer["object"] == "list"
    assert answer["model"] == INFO.name
    assert answer["usage"] == {"prompt_tokens": 260, "total_tokens": 260}
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert {one["object"] for one in answer["data"]} == {"embedding"}
    assert answer["data"][0]["embedding"] == [0.600000024, -0.800000012, 0.0]
    assert "truncated" not in answer["data"][0]
    assert answer["data"][1]["truncated"] is True


def test_base64_is_little_endian_float32() -> None:
    request = EmbeddingsRequest(input="a", model="m", encoding_format="base64")
    answer = json.loads(render_response([Embedded(VECTOR, 4, False)], request, INFO))
    assert np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4").tolist() == VECTOR.tolist()
