"""The JSON of OpenAI's `/v1/embeddings`: what comes in, checked, and what goes out."""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails, to_json

from services.embedder.ports import Embedded, ModelInfo, Vector
from services.kit.errors import InvalidArgument

# A float32 near 0.05, which most values of a vector of length 1 are, has no digit beyond the ninth.
_DIGITS = 9


def _shape(value: Any) -> str:
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else ""
    # True is an int to Python, and no token id to anyone.
    return "tokens" if isinstance(first, int | list) and not isinstance(first, bool) else "texts"


class EmbeddingsRequest(BaseModel):
    """What is read of a request; fields that are not listed are ignored, as OpenAI's own server grows them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    input: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[str], Tag("texts")] | Annotated[list[Any], Tag("tokens")],
        Discriminator(_shape),
    ]
    model: str = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [self.input] if isinstance(self.input, str) else [text for text in self.input if isinstance(text, str)]


def parse_request(data: bytes) -> EmbeddingsRequest:
    """Reads the body; raises InvalidArgument that names the wrong field, as in `input[3]`.

    Token ids are refused: clients that send them use the vocabulary of OpenAI's models, and read in this model's they
    would be other words, embedded without a sign that anything is wrong.
    """
    try:
        request = EmbeddingsRequest.model_validate_json(data)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)[0]) from error
    if not isinstance(request.input, str) and any(not isinstance(text, str) for text in request.input):
        raise InvalidArgument(
            "input holds token ids, which belong to another model's vocabulary; send text",
            reason="TOKEN_IDS",
            field="input",
        )
    return request


def render_response(found: list[Embedded], request: EmbeddingsRequest, info: ModelInfo) -> bytes:
    """The answer's JSON. A text whose end was cut off has `truncated`, which OpenAI's own answers never have."""
    values = _base64 if request.encoding_format == "base64" else _floats
    data = []
    for index, embedded in enumerate(found):
        item = {"object": "embedding", "index": index, "embedding": values(embedded.vector)}
        data.append(item | {"truncated": True} if embedded.truncated else item)
    tokens = sum(embedded.tokens for embedded in found)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return to_json({"object": "list", "data": data, "model": info.name, "usage": usage})


def _floats(vector: Vector) -> list[float]:
    rounded: list[float] = np.round(vector.astype(np.float64), _DIGITS).tolist()
    return rounded


def _base64(vector: Vector) -> str:
    """Little-endian float32, as OpenAI's client reads it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _refusal(detail: ErrorDetails) -> InvalidArgument:
    """One sentence for the first thing that is wrong."""
    if detail["type"] == "json_invalid":
        return InvalidArgument(f"the body is not JSON: {detail['msg']}", reason="NOT_JSON")
    # The tags that tell the shapes of `input` apart are no part of the caller's document.
    parts = [part for part in detail["loc"] if part not in ("text", "texts", "tokens")]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return InvalidArgument(f"{field or 'the body'}: {detail['msg']}", reason="WRONG_FIELD", field=field)
