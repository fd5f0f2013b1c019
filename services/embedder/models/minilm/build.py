"""Builds a model file from safetensors. Runs as a process of its own, so that the service's loop and memory stay free:
`python -m services.embedder.models.minilm.build FILE RECIPE`, where RECIPE is a Recipe's JSON."""

import fcntl
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from safetensors.numpy import load_file

from services.embedder.models.minilm.graph import Pooled, Shape, encoder_graph
from services.embedder.models.minilm.nodes import Tensors
from services.embedder.models.minilm.sealed import read_sealed, temporary_prefix, write_sealed

# Raised whenever the builder would write another file from the same weights.
BUILDER_VERSION = 2
# What checkpoints of whole models put before the encoder's own names.
_PREFIXES = ("", "bert.", "roberta.", "model.")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build from. `precision` is int8 or fp32, `pooling` mean, cls or none."""

    tensors: str
    config: str
    precision: str = "int8"
    pooling: Pooled = "mean"

    @property
    def json(self) -> str:
        """The builder process's argument."""
        return json.dumps(asdict(self))


def encoder_model(recipe: Recipe) -> onnx.ModelProto:
    """The model with fp32 weights, as it was trained, or with int8 ones."""
    config = json.loads(Path(recipe.config).read_text())
    shape = Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        first_position=_first_position(config),
    )
    return encoder_graph(_encoder(load_file(recipe.tensors)), shape, recipe.pooling, int8=recipe.precision == "int8")


def _first_position(config: dict[str, Any]) -> int:
    """RoBERTa's positions begin after the one of padding, BERT's at 0."""
    return int(config.get("pad_token_id", 1)) + 1 if config.get("model_type") in ("roberta", "xlm-roberta") else 0


def _encoder(tensors: dict[str, Any]) -> Tensors:
    """The encoder's tensors in fp32, under the names that they have in a bare checkpoint."""
    word = "embeddings.word_embeddings.weight"
    prefix = next((one for one in _PREFIXES if one + word in tensors), None)
    if prefix is None:
        raise KeyError(f"no tensor is called {word}: the file is not one of a BERT encoder")
    return {
        name.removeprefix(prefix): value.astype("float32") for name, value in tensors.items() if name.startswith(prefix)
    }


def build(target: Path, recipe: Recipe) -> None:
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
        write_sealed(target, encoder_model(recipe).SerializeToString())


if __name__ == "__main__":
    build(Path(sys.argv[1]), Recipe(**json.loads(sys.argv[2])))
