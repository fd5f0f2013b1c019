"""Writes a BERT encoder as an ONNX graph: token ids in, mean-pooled vectors of length 1 out. Knows no files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Pooled = Literal["mean", "cls", "none"]
"""How the graph makes one vector of a text's tokens; none gives a vector for each token."""

Tensors = Mapping[str, npt.NDArray[np.float32]]

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "embedding"
_OPSET = 17
_IR_VERSION = 8
_MASKED = -3.4e38


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


def encoder_graph(tensors: Tensors, shape: Shape, pooling: Pooled = "mean") -> onnx.ModelProto:
    """The whole model in fp32, of any batch and length. `tensors` are named as in BERT checkpoints.

    Vectors that the graph pools have length 1.
    """
    graph = _Graph(tensors)
    mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = _embeddings(graph, shape)
    attended = graph.op("Mul", graph.op("Sub", graph.scalar(1.0), graph.unsqueeze(mask, 1, 2)), graph.scalar(_MASKED))
    for layer in range(shape.layers):
        hidden = _layer(graph, f"encoder.layer.{layer}.", hidden, attended, shape)
    if pooling == "none":
        graph.op("Identity", hidden, output=OUTPUT)
        return graph.model(["batch", "tokens", shape.hidden])
    pooled = _mean(graph, hidden, graph.unsqueeze(mask, -1)) if pooling == "mean" else _first(graph, hidden)
    graph.op("LpNormalization", pooled, output=OUTPUT, axis=1, p=2)
    return graph.model(["batch", shape.hidden])


def _embeddings(graph: "_Graph", shape: Shape) -> str:
    words = graph.op("Gather", graph.tensor("embeddings.word_embeddings.weight"), "input_ids")
    length = graph.op("Slice", graph.op("Shape", "input_ids"), graph.ints(1), graph.ints(2), graph.ints(0))
    positions = graph.array(graph.tensors["embeddings.position_embeddings.weight"][shape.first_position :], "positions")
    places = graph.op("Slice", positions, graph.ints(0), length, graph.ints(0))
    # Every text is of token type 0, so its row is the same for all.
    kind = graph.array(graph.tensors["embeddings.token_type_embeddings.weight"][0])
    summed = graph.op("Add", graph.op("Add", words, kind), places)
    return graph.norm(summed, "embeddings.LayerNorm", shape.epsilon)


def _layer(graph: "_Graph", prefix: str, hidden: str, attended: str, shape: Shape) -> str:
    context = _attention(graph, f"{prefix}attention.self.", hidden, attended, shape)
    mixed = graph.linear(context, f"{prefix}attention.output.dense")
    hidden = graph.norm(graph.op("Add", mixed, hidden), f"{prefix}attention.output.LayerNorm", shape.epsilon)
    wide = _gelu(graph, graph.linear(hidden, f"{prefix}intermediate.dense"))
    narrow = graph.linear(wide, f"{prefix}output.dense")
    return graph.norm(graph.op("Add", narrow, hidden), f"{prefix}output.LayerNorm", shape.epsilon)


def _attention(graph: "_Graph", prefix: str, hidden: str, attended: str, shape: Shape) -> str:
    def heads(name: str, order: list[int], scale: float = 1.0) -> str:
        split = graph.op(
            "Reshape", graph.linear(hidden, prefix + name, scale), graph.ints(0, 0, shape.heads, shape.head)
        )
        return graph.op("Transpose", split, perm=order)

    # The scale of the dot products is folded into the query's weights.
    query = heads("query", [0, 2, 1, 3], 1.0 / float(np.sqrt(shape.head)))
    key = heads("key", [0, 2, 3, 1])
    value = heads("value", [0, 2, 1, 3])
    weights = graph.op("Softmax", graph.op("Add", graph.op("MatMul", query, key), attended), axis=-1)
    context = graph.op("Transpose", graph.op("MatMul", weights, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", context, graph.ints(0, 0, shape.hidden))


def _gelu(graph: "_Graph", value: str) -> str:
    erf = graph.op("Erf", graph.op("Mul", value, graph.scalar(1.0 / float(np.sqrt(2.0)))))
    doubled = graph.op("Mul", value, graph.op("Add", erf, graph.scalar(1.0)))
    return graph.op("Mul", doubled, graph.scalar(0.5))


def _mean(graph: "_Graph", hidden: str, mask: str) -> str:
    """The mean over the tokens that are no padding."""
    total = graph.op("ReduceSum", graph.op("Mul", hidden, mask), graph.ints(1), keepdims=0)
    count = graph.op("ReduceSum", mask, graph.ints(1), keepdims=0)
    return graph.op("Div", total, graph.op("Max", count, graph.scalar(1e-9)))


def _first(graph: "_Graph", hidden: str) -> str:
    """The first token's vector, which stands for the whole text."""
    return graph.op("Gather", hidden, graph.array(np.array(0, np.int64), "index_0"), axis=1)


class _Graph:
    """Collects nodes and constants; each method returns the name of the value that it adds."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output or name], name=name, **attributes))
        return output or name

    def array(self, value: npt.NDArray[Any], name: str = "") -> str:
        name = name or f"constant_{len(self._constants)}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def tensor(self, name: str) -> str:
        return self.array(self.tensors[name], name)

    def ints(self, *values: int) -> str:
        return self.array(np.array(values, np.int64), f"ints_{'_'.join(map(str, values))}")

    def scalar(self, value: float) -> str:
        return self.array(np.array(value, np.float32), f"scalar_{value!r}")

    def unsqueeze(self, value: str, *axes: int) -> str:
        return self.op("Unsqueeze", value, self.ints(*axes))

    def linear(self, value: str, name: str, scale: float = 1.0) -> str:
        weight = self.array(self.tensors[f"{name}.weight"].T * np.float32(scale), f"{name}.weight")
        bias = self.array(self.tensors[f"{name}.bias"] * np.float32(scale), f"{name}.bias")
        return self.op("Add", self.op("MatMul", value, weight), bias)

    def norm(self, value: str, name: str, epsilon: float) -> str:
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return self.op("LayerNormalization", value, weight, bias, axis=-1, epsilon=epsilon)

    def model(self, output_shape: list[str | int]) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in INPUTS]
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, output_shape)
        graph = helper.make_graph(self._nodes, "encoder", inputs, [output], list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        onnx.checker.check_model(model)
        return model
