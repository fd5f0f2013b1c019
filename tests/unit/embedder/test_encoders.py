"""Graphs of BERT, RoBERTa and XLM-R with small random weights, against the same arithmetic in numpy."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from safetensors.numpy import save_file

from services.embedder.models.minilm.build import Recipe, encoder_model

HIDDEN, HEADS, LAYERS, WORDS, POSITIONS = 64, 4, 2, 50, 20
LENGTHS = (9, 9, 4)
Array = npt.NDArray[np.float32]

KINDS = [
    pytest.param("bert", "", 0, id="BERT"),
    pytest.param("bert", "bert.", 0, id="BERT within a whole model"),
    pytest.param("roberta", "roberta.", 1, id="RoBERTa, whose positions begin at 2"),
    pytest.param("xlm-roberta", "", 1, id="XLM-R"),
]


def weights(seed: int = 5) -> dict[str, Array]:
    random = np.random.default_rng(seed)

    def some(*shape: int) -> Array:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": some(WORDS, HIDDEN),
        "embeddings.position_embeddings.weight": some(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": some(2, HIDDEN),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{index}" for index in range(LAYERS)):
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
        sizes = dict.fromkeys(parts, (HIDDEN, HIDDEN))
        sizes |= {"intermediate.dense": (4 * HIDDEN, HIDDEN), "output.dense": (HIDDEN, 4 * HIDDEN)}
        for part, (rows, columns) in sizes.items():
            found |= {f"{layer}.{part}.weight": some(rows, columns), f"{layer}.{part}.bias": some(rows)}
    for norm in norms:
        found |= {f"{norm}.weight": 1 + some(HIDDEN), f"{norm}.bias": some(HIDDEN)}
    return found


def encoded(tensors: dict[str, Array], ids: list[int], first_position: int) -> Array:
    """One text's vectors, a row for each token, without any padding."""

    def linear(value: Array, name: str) -> Array:
        return value @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(value: Array, name: str) -> Array:
        centred = value - value.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def heads(value: Array) -> Array:
        return value.reshape(len(value), HEADS, -1).swapaxes(0, 1)

    places = np.arange(len(ids)) + first_position
    hidden = tensors["embeddings.word_embeddings.weight"][ids]
    hidden = hidden + tensors["embeddings.position_embeddings.weight"][places]
    hidden = norm(hidden + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(LAYERS)):
        names = (f"{layer}.attention.self.{name}" for name in ("query", "key", "value"))
        query, key, value = (heads(linear(hidden, name)) for name in names)
        scores = np.exp(query @ key.swapaxes(1, 2) / math.sqrt(HIDDEN // HEADS))
        context = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(len(ids), HIDDEN)
        mixed = linear(context, f"{layer}.attention.output.dense")
        hidden = norm(mixed + hidden, f"{layer}.attention.output.LayerNorm")
        wide = linear(hidden, f"{layer}.intermediate.dense")
        wide = wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))) / 2
        hidden = norm(linear(wide, f"{layer}.output.dense") + hidden, f"{layer}.output.LayerNorm")
    return hidden.astype(np.float32)


def texts() -> list[list[int]]:
    random = np.random.default_rng(11)
    return [random.integers(3, WORDS, length).tolist() for length in LENGTHS]


def run(folder: Path, kind: str, prefix: str, pad: int, texts: list[list[int]], **recipe: Any) -> Array:
    """The graph's answer to the texts in one batch."""
    save_file({prefix + name: value for name, value in weights().items()}, folder / "model.safetensors")
    config = {"model_type": kind, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-5, "pad_token_id": pad}))
    built = encoder_model(Recipe(str(folder / "model.safetensors"), str(folder / "config.json"), **recipe))
    session = onnxruntime.InferenceSession(built.SerializeToString())
    longest = max(map(len, texts))
    ids = np.array([text + [pad] * (longest - len(text)) for text in texts])
    mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    found: Array = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return found


@pytest.mark.parametrize("padded", [pytest.param(True, id="padded"), pytest.param(False, id="of one length")])
@pytest.mark.parametrize(("kind", "prefix", "pad"), KINDS)
def test_vectors_of_each_token(tmp_path: Path, kind: str, prefix: str, pad: int, padded: bool) -> None:
    batch = texts() if padded else texts()[:2]
    found = run(tmp_path, kind, prefix, pad, batch, precision="fp32", pooling="none")
    for row, text in zip(found, batch, strict=True):
        wanted = encoded(weights(), text, pad + 1 if "roberta" in kind else 0)
        assert row[: len(text)] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("int8", 0.99)])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("kind", "prefix", "pad"), KINDS)
def test_pooled_vectors(
    tmp_path: Path, kind: str, prefix: str, pad: int, pooling: str, precision: str, least: float
) -> None:
    found = run(tmp_path, kind, prefix, pad, texts(), precision=precision, pooling=pooling)
    for row, text in zip(found, texts(), strict=True):
        tokens = encoded(weights(), text, pad + 1 if "roberta" in kind else 0)
        wanted = tokens.mean(axis=0) if pooling == "mean" else tokens[0]
        assert row @ wanted / np.linalg.norm(wanted) >= least


def test_a_file_without_an_encoder_says_so(tmp_path: Path) -> None:
    save_file({"classifier.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "layer_norm_eps": 1e-5})
    )
    with pytest.raises(KeyError, match="not one of a BERT encoder"):
        encoder_model(Recipe(str(tmp_path / "model.safetensors"), str(tmp_path / "config.json")))
