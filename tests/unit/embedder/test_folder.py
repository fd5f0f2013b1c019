"""Model folders as sentence-transformers and ONNX exporters write them: what is read of them, and what is refused."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.embedder.models.minilm.build import Recipe, encoder_model
from services.embedder.models.minilm.weights import find_weights
from services.embedder.models.onnx.folder import read_folder
from services.embedder.models.onnx.load import load_folder
from services.embedder.models.onnx.network import OnnxNetwork, pool
from services.embedder.models.threads import ThreadedModel
from services.embedder.ports import BatchLimits, Vectors
from services.kit.errors import Unavailable
from services.kit.settings.embedder import EmbeddingModelSettings

TEXTS = ["The cat sleeps on the sofa.", "A cat naps on the couch.", "Interest rates rose again. " * 60]


def bare(folder: Path, **config: Any) -> Path:
    """A folder without weights."""
    weights = find_weights()
    folder.mkdir(exist_ok=True)
    shutil.copy(weights.tokenizer, folder / "tokenizer.json")
    own = json.loads(weights.config.read_text())
    (folder / "config.json").write_text(json.dumps(own | config))
    return folder


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM as an exporter writes it: a vector for each token, and how to pool them beside it."""
    folder = bare(tmp_path_factory.mktemp("exported") / "mini")
    weights = find_weights()
    recipe = Recipe(str(weights.tensors), str(weights.config), "fp32", "none")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(encoder_model(recipe).SerializeToString())
    write(folder, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 128})
    write(folder, "config_sentence_transformers.json", {"prompts": {"query": "query: ", "passage": "passage: "}})
    return folder


def load(folder: Path, data_dir: Path, **fields: Any) -> OnnxNetwork:
    return asyncio.run(load_folder("mine", EmbeddingModelSettings(kind="folder", path=folder, **fields), data_dir))


def vectors(network: OnnxNetwork) -> Vectors:
    return network.embed(network.encode(TEXTS))


def test_an_exported_folder(onnx_folder: Path, tmp_path: Path) -> None:
    network = load(onnx_folder, tmp_path)
    info = network.info
    assert (info.dimensions, info.max_tokens, info.prefix(True), info.prefix(False)) == (
        384,
        128,
        "query: ",
        "passage: ",
    )
    found = vectors(network)
    assert found[0] @ found[1] > 0.6 > 0.2 > found[0] @ found[2]
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert [one.truncated for one in network.encode(TEXTS)] == [False, False, True]


async def test_prompts_go_before_texts_by_their_purpose(onnx_folder: Path, tmp_path: Path) -> None:
    settings = EmbeddingModelSettings(kind="folder", path=onnx_folder, passage_prefix="title: ")
    network = await load_folder("mine", settings, tmp_path)
    model = ThreadedModel(network, BatchLimits(512, 256, 1))
    try:
        (query,) = await model.prepare(["a text"], query=True)
        (passage,) = await model.prepare(["a text"], query=False)
    finally:
        await model.close()
    assert [query, passage] == network.encode(["query: a text", "title: a text"])


def test_what_changes_vectors_changes_the_fingerprint(onnx_folder: Path, tmp_path: Path) -> None:
    plain = load(onnx_folder, tmp_path).info.fingerprint
    assert load(onnx_folder, tmp_path).info.fingerprint == plain
    assert load(onnx_folder, tmp_path, query_prefix="").info.fingerprint != plain
    assert load(onnx_folder, tmp_path, pooling="cls").info.fingerprint != plain


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_graph_built_from_safetensors_is_the_exported_one(onnx_folder: Path, tmp_path: Path, pooling: str) -> None:
    folder = bare(tmp_path / "plain")
    shutil.copy(find_weights().tensors, folder / "model.safetensors")
    built = load(folder, tmp_path, precision="fp32", pooling=pooling, max_tokens=128)
    exported = load(onnx_folder, tmp_path, pooling=pooling)
    assert (vectors(built) * vectors(exported)).sum(axis=1) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda f: shutil.rmtree(f), "is no folder", id="no folder"),
        pytest.param(lambda f: (f / "config.json").unlink(), "config.json is missing", id="no config"),
        pytest.param(lambda f: (f / "tokenizer.json").unlink(), "fast form", id="no fast tokenizer"),
        pytest.param(lambda f: None, "optimum-cli export onnx", id="no weights"),
        pytest.param(lambda f: (f / "config.json").write_text("{"), "cannot be read", id="a broken config"),
        pytest.param(
            lambda f: write(f, "modules.json", [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]),
            "a step Dense",
            id="a step that is not known",
        ),
        pytest.param(
            lambda f: write(f, "1_Pooling/config.json", {"pooling_mode_max_tokens": True}), "max_tokens", id="pooling"
        ),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, change: Callable[[Path], Any], says: str) -> None:
    folder = bare(tmp_path / "model")
    if "optimum" not in says:
        (folder / "model.onnx").touch()
    change(folder)
    with pytest.raises(Unavailable, match=says):
        read_folder(folder)


def test_safetensors_of_another_kind_say_how_to_export(tmp_path: Path) -> None:
    folder = bare(tmp_path / "model", model_type="t5")
    (folder / "model.safetensors").touch()
    with pytest.raises(Unavailable, match=r"not of t5.*optimum-cli"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        pytest.param("mean", [[2.0, 2.0], [5.0, 5.0]], id="mean"),
        pytest.param("cls", [[1.0, 1.0], [5.0, 5.0]], id="cls"),
        pytest.param("last", [[3.0, 3.0], [5.0, 5.0]], id="last"),
    ],
)
def test_pooling_leaves_padding_out(pooling: Any, expected: list[list[float]]) -> None:
    hidden = np.array([[[1, 1], [3, 3]], [[5, 5], [9, 9]]], np.float32)
    assert pool(hidden, np.array([[1, 1], [1, 0]]), pooling).tolist() == expected
