"""Builds the int8 model file from the weights. Runs as a process of its own, so that the service's loop and memory
stay free: `python -m services.embedder.models.minilm.build FILE`."""

import fcntl
import json
import sys
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

from services.embedder.models.minilm.graph import Shape, encoder_graph
from services.embedder.models.minilm.sealed import read_sealed, temporary_prefix, write_sealed
from services.embedder.models.minilm.weights import Weights, find_weights


def fp32_model(weights: Weights) -> onnx.ModelProto:
    """The model as it was trained."""
    config = json.loads(weights.config.read_text())
    shape = Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
    )
    return encoder_graph(load_file(weights.tensors), shape)


def int8_model(weights: Weights) -> bytes:
    """The model with int8 weights, one scale for each output channel.

    One scale for a whole tensor costs too much: cosine 0.94 to fp32 where this has 0.99.
    """
    with tempfile.TemporaryDirectory(prefix="weft-minilm-") as folder:
        target = Path(folder) / "int8.onnx"
        quantize_dynamic(fp32_model(weights), target, per_channel=True, weight_type=QuantType.QInt8)
        return target.read_bytes()


def build(target: Path, weights: Weights) -> None:
    """Leaves a whole model file at `target`; a second process that wants the same file waits for the first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read_sealed(target) is not None:
            return
        # Whoever holds the lock is the only writer, so these are what a killed one left behind.
        for left in target.parent.glob(f"{temporary_prefix(target)}*"):
            if not left.name.endswith(".lock"):
                left.unlink()
        write_sealed(target, int8_model(weights))


if __name__ == "__main__":
    build(Path(sys.argv[1]), find_weights())
