"""Collects an ONNX graph's nodes and weights, in fp32 or with int8 weights. Knows no model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Tensors = Mapping[str, npt.NDArray[np.float32]]

# onnxruntime's own operators, which do in one pass what standard ones do in five.
_CONTRIB = "com.microsoft"
_OPSET = 17
_IR_VERSION = 8
_STEPS = 127


class Nodes:
    """Each method returns the name of the value that it adds. `int8`: weights have one scale for each output channel.

    One scale for a whole tensor costs too much: cosine 0.94 to fp32 where this has 0.99.
    """

    def __init__(self, tensors: Tensors, *, int8: bool) -> None:
        self.tensors = tensors
        self._int8 = int8
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def __repr__(self) -> str:
        return f"Nodes({len(self._nodes)} nodes, {len(self._constants)} constants)"

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A standard operator with one output."""
        return self._add(kind, inputs, [output or self._name(kind)], attributes)[0]

    def contrib(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One of onnxruntime's own operators."""
        return self._add(kind, inputs, [self._name(kind)], {"domain": _CONTRIB, **attributes})[0]

    def either(self, condition: str, then: tuple[str, ...], otherwise: tuple[str, ...], **attributes: Any) -> str:
        """One of onnxruntime's own operators, its inputs chosen at run time; `then` and `otherwise` begin with it."""
        then_branch, else_branch = (self._branch(branch, attributes) for branch in (then, otherwise))
        return self.op("If", condition, then_branch=then_branch, else_branch=else_branch)

    def array(self, value: npt.NDArray[Any], name: str = "") -> str:
        """A constant; the same name stands for the same value."""
        name = name or f"constant_{len(self._constants)}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def tensor(self, name: str) -> str:
        """One of the checkpoint's tensors as it is."""
        return self.array(self.tensors[name], name)

    def ints(self, *values: int) -> str:
        """A list of integers."""
        return self.array(np.array(values, np.int64), f"ints_{'_'.join(map(str, values))}")

    def scalar(self, value: float) -> str:
        """A number."""
        return self.array(np.array(value, np.float32), f"scalar_{value!r}")

    def unsqueeze(self, value: str, *axes: int) -> str:
        """The value with more dimensions."""
        return self.op("Unsqueeze", value, self.ints(*axes))

    def rows(self, name: str, indices: str) -> str:
        """Rows of a table; in int8 each row has its own scale."""
        if not self._int8:
            return self.op("Gather", self.tensor(name), indices)
        whole, scales = _quantised(self.tensors[name].T)
        small = self.op("Gather", self.array(whole.T, f"{name}.int8"), indices)
        scale = self.op("Gather", self.array(scales[:, None], f"{name}.scale"), indices)
        return self.op("Mul", self.op("Cast", small, to=TensorProto.FLOAT), scale)

    def linear(self, value: str, name: str) -> str:
        """The value through one layer."""
        if not self._int8:
            return self._fp32(value, name, 1.0)
        small, scales, zeros, bias = self._weights(name, 1.0)
        return self.contrib("DynamicQuantizeMatMul", value, small, scales, zeros, bias)

    def linears(self, value: str, scaled: Mapping[str, float]) -> list[str]:
        """One value through several layers, each with a factor on its output; it is quantised once."""
        if not self._int8:
            return [self._fp32(value, name, factor) for name, factor in scaled.items()]
        base = self._name("Quantised")
        outputs = [f"{base}_{part}" for part in ("value", "scale", "zero")]
        whole, scale, zero = self._add("DynamicQuantizeLinear", (value,), outputs, {})
        found = []
        for name, factor in scaled.items():
            small, scales, zeros, bias = self._weights(name, factor)
            found.append(self.contrib("MatMulIntegerToFloat", whole, small, scale, scales, zero, zeros, bias))
        return found

    def norm(self, value: str, name: str, epsilon: float) -> str:
        """Layer normalisation."""
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return self.op("LayerNormalization", value, weight, bias, axis=-1, epsilon=epsilon)

    def model(self, inputs: tuple[str, ...], output: str, output_shape: list[str | int]) -> onnx.ModelProto:
        """The whole, checked; its inputs are int64 of any batch and length."""
        taken = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs]
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)
        graph = helper.make_graph(self._nodes, "encoder", taken, [given], list(self._constants.values()))
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = _IR_VERSION
        onnx.checker.check_model(model)
        return model

    def _name(self, kind: str) -> str:
        return f"{kind}_{len(self._nodes)}"

    def _add(self, kind: str, inputs: tuple[str, ...], outputs: list[str], attributes: dict[str, Any]) -> list[str]:
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=self._name(kind), **attributes))
        return outputs

    def _branch(self, branch: tuple[str, ...], attributes: dict[str, Any]) -> onnx.GraphProto:
        kind, *inputs = branch
        result = f"{self._name(kind)}_{len(inputs)}"
        node = helper.make_node(kind, inputs, [result], name=result, domain=_CONTRIB, **attributes)
        return helper.make_graph([node], result, [], [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)])

    def _fp32(self, value: str, name: str, factor: float) -> str:
        weight = self.array(self.tensors[f"{name}.weight"].T * np.float32(factor), f"{name}.weight")
        return self.op("Add", self.op("MatMul", value, weight), self._bias(name, factor))

    def _weights(self, name: str, factor: float) -> tuple[str, str, str, str]:
        """The layer's int8 weights, their scales and zero points, and its bias."""
        small, scales = _quantised(self.tensors[f"{name}.weight"].T)
        return (
            self.array(small, f"{name}.int8"),
            self.array(scales * np.float32(factor), f"{name}.scale"),
            self.array(np.zeros(len(scales), np.int8), f"zeros_{len(scales)}"),
            self._bias(name, factor),
        )

    def _bias(self, name: str, factor: float) -> str:
        return self.array(self.tensors[f"{name}.bias"] * np.float32(factor), f"{name}.bias")


def _quantised(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """The matrix in 255 steps around 0, and one scale for each of its columns."""
    scales = np.abs(weights).max(axis=0) / np.float32(_STEPS)
    scales[scales == 0] = 1.0
    return np.rint(weights / scales).astype(np.int8), scales.astype(np.float32)
