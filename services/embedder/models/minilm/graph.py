"""Writes a BERT encoder as an ONNX graph for onnxruntime: token ids in, vectors out. Knows no files.

It uses onnxruntime's own operators for attention and GELU, and for int8 weights.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from services.embedder.models.minilm.nodes import Nodes, Tensors

Pooled = Literal["mean", "cls", "none"]
"""How the graph makes one vector of a text's tokens; none gives a vector for each token."""

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "embedding"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the graph needs of the model's configuration."""

    hidden: int
    layers: int
    heads: int
    epsilon: float
    first_position: int = 0

    @property
    def head(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class _Mask:
    """The attention mask in the forms that the layers need; `full`: no text of the batch is padded."""

    numbers: str
    tokens: str
    full: str


def encoder_graph(tensors: Tensors, shape: Shape, pooling: Pooled = "mean", *, int8: bool = False) -> onnx.ModelProto:
    """The whole model, of any batch and length. `tensors` are named as in BERT checkpoints.

    Vectors that the graph pools have length 1.
    """
    nodes = Nodes(tensors, int8=int8)
    mask = _mask(nodes)
    hidden = _embeddings(nodes, shape)
    for layer in range(shape.layers):
        hidden = _layer(nodes, f"encoder.layer.{layer}.", hidden, mask, shape)
    if pooling == "none":
        nodes.op("Identity", hidden, output=OUTPUT)
        return nodes.model(INPUTS, OUTPUT, ["batch", "tokens", shape.hidden])
    pooled = _mean(nodes, hidden, nodes.unsqueeze(mask.numbers, -1)) if pooling == "mean" else _first(nodes, hidden)
    nodes.op("LpNormalization", pooled, output=OUTPUT, axis=1, p=2)
    return nodes.model(INPUTS, OUTPUT, ["batch", shape.hidden])


def _mask(nodes: Nodes) -> _Mask:
    numbers = nodes.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    least = nodes.op("ReduceMin", numbers, keepdims=0)
    return _Mask(
        numbers=numbers,
        tokens=nodes.op("Cast", "attention_mask", to=TensorProto.INT32),
        full=nodes.op("Greater", least, nodes.scalar(0.5)),
    )


def _embeddings(nodes: Nodes, shape: Shape) -> str:
    words = nodes.rows("embeddings.word_embeddings.weight", "input_ids")
    length = nodes.op("Slice", nodes.op("Shape", "input_ids"), nodes.ints(1), nodes.ints(2), nodes.ints(0))
    # Every text is of token type 0, so its row is the same for all.
    kind = nodes.tensors["embeddings.token_type_embeddings.weight"][0]
    positions = nodes.tensors["embeddings.position_embeddings.weight"][shape.first_position :] + kind
    places = nodes.op("Slice", nodes.array(positions, "positions"), nodes.ints(0), length, nodes.ints(0))
    return nodes.norm(nodes.op("Add", words, places), "embeddings.LayerNorm", shape.epsilon)


def _layer(nodes: Nodes, prefix: str, hidden: str, mask: _Mask, shape: Shape) -> str:
    context = _attention(nodes, f"{prefix}attention.self.", hidden, mask, shape)
    mixed = nodes.linear(context, f"{prefix}attention.output.dense")
    hidden = nodes.norm(nodes.op("Add", mixed, hidden), f"{prefix}attention.output.LayerNorm", shape.epsilon)
    wide = nodes.contrib("Gelu", nodes.linear(hidden, f"{prefix}intermediate.dense"))
    narrow = nodes.linear(wide, f"{prefix}output.dense")
    return nodes.norm(nodes.op("Add", narrow, hidden), f"{prefix}output.LayerNorm", shape.epsilon)


def _attention(nodes: Nodes, prefix: str, hidden: str, mask: _Mask, shape: Shape) -> str:
    # The scale of the dot products is folded into the query's weights.
    scale = 1.0 / float(np.sqrt(shape.head))
    query, key, value = nodes.linears(hidden, {f"{prefix}query": scale, f"{prefix}key": 1.0, f"{prefix}value": 1.0})
    parts = ("MultiHeadAttention", query, key, value)
    # Without a mask onnxruntime takes its flash attention, which is a sixth faster.
    return nodes.either(mask.full, parts, (*parts, "", mask.tokens), num_heads=shape.heads, scale=1.0)


def _mean(nodes: Nodes, hidden: str, mask: str) -> str:
    """The mean over the tokens that are no padding."""
    total = nodes.op("ReduceSum", nodes.op("Mul", hidden, mask), nodes.ints(1), keepdims=0)
    count = nodes.op("ReduceSum", mask, nodes.ints(1), keepdims=0)
    return nodes.op("Div", total, nodes.op("Max", count, nodes.scalar(1e-9)))


def _first(nodes: Nodes, hidden: str) -> str:
    """The first token's vector, which stands for the whole text."""
    return nodes.op("Gather", hidden, nodes.array(np.array(0, np.int64), "index_0"), axis=1)
