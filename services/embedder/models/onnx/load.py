"""Brings a model's folder up as a network."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from services.embedder.models.minilm.build import Recipe
from services.embedder.models.minilm.load import built_model
from services.embedder.models.minilm.weights import hash_files
from services.embedder.models.onnx.folder import Folder, read_folder, unusable
from services.embedder.models.onnx.network import OnnxNetwork
from services.embedder.ports import ModelInfo
from services.kit.settings.embedder import EmbeddingModelSettings


async def load_folder(name: str, settings: EmbeddingModelSettings, data_dir: Path) -> OnnxNetwork:
    """The network of `settings.path`. Raises Unavailable where the folder cannot be used, and says what to do."""
    assert settings.path is not None, "the settings check it"
    folder = await asyncio.to_thread(read_folder, settings.path)
    if settings.pooling:
        folder = replace(folder, pooling=settings.pooling)
    query = folder.query_prefix if settings.query_prefix is None else settings.query_prefix
    passage = folder.passage_prefix if settings.passage_prefix is None else settings.passage_prefix
    info = ModelInfo(
        name=name,
        dimensions=_dimensions(folder),
        max_tokens=min(settings.max_tokens or folder.max_tokens, folder.max_tokens),
        fingerprint=await asyncio.to_thread(_fingerprint, folder, query, passage),
        runtime=f"onnxruntime {settings.precision}" if folder.tensors else f"onnxruntime {folder.onnx}",
        query_prefix=query,
        passage_prefix=passage,
    )
    model = await _model(folder, settings, data_dir)
    tokenizer = await asyncio.to_thread(_tokenizer, folder)
    return await asyncio.to_thread(lambda: OnnxNetwork(info, model, tokenizer, folder.pooling, bert=folder.bert))


async def _model(folder: Folder, settings: EmbeddingModelSettings, data_dir: Path) -> bytes | str:
    if folder.tensors is None:
        # By its path, because large models keep their weights in files beside it.
        return str(folder.onnx)
    pooling = folder.pooling if folder.pooling in ("mean", "cls") else "none"
    recipe = Recipe(str(folder.tensors), str(folder.path / "config.json"), settings.precision, pooling)
    return await built_model(data_dir, folder.path.name, recipe)


def _dimensions(folder: Folder) -> int:
    found = folder.config.get("hidden_size") or folder.config.get("dim")
    if not isinstance(found, int):
        raise unusable(f"{folder.path / 'config.json'} has no hidden_size, so the length of its vectors is unknown")
    return found


def _tokenizer(folder: Folder) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(folder.tokenizer))
    except Exception as error:
        raise unusable(f"{folder.tokenizer} cannot be read: {error}") from error


def _fingerprint(folder: Folder, query: str, passage: str) -> str:
    """Weights, tokenizer, pooling and prefixes: whatever changes the vectors, but not how exactly they are computed."""
    weights = folder.onnx or folder.tensors
    assert weights is not None, "read_folder found one of them"
    beside = sorted(weights.parent.glob(f"{weights.name}[_.]data")) if folder.onnx else []
    files = hash_files(weights, *beside, folder.tokenizer)
    return hashlib.sha256("\0".join((files, folder.pooling, query, passage)).encode()).hexdigest()
