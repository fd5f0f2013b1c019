"""Brings encoders up whose graph is built here: finds or builds the model file, then opens it, off the event loop."""

import asyncio
import sys
from pathlib import Path

import structlog

from services.embedder.models.minilm.build import BUILDER_VERSION, Recipe
from services.embedder.models.minilm.model import NAME, minilm
from services.embedder.models.minilm.sealed import read_sealed
from services.embedder.models.minilm.weights import find_weights, hash_files
from services.embedder.models.onnx.network import OnnxNetwork
from services.kit.errors import Internal

_BUILDER = "services.embedder.models.minilm.build"
_MESSAGE_BYTES = 2000


async def load_minilm(data_dir: Path, precision: str = "int8", name: str = NAME, max_tokens: int = 0) -> OnnxNetwork:
    """The network, ready. The first start builds its file in a few seconds; raises Internal where that fails."""
    weights = find_weights()
    fingerprint = await asyncio.to_thread(hash_files, weights.tensors, weights.tokenizer)
    recipe = Recipe(str(weights.tensors), str(weights.config), precision)
    model = await built_model(data_dir, "minilm", recipe)
    return await asyncio.to_thread(minilm, model, weights, fingerprint, precision, name, max_tokens)


async def built_model(data_dir: Path, stem: str, recipe: Recipe) -> bytes:
    """The model file of this recipe, from `data_dir/models` or built now. Raises Internal where that fails."""
    weights_hash = await asyncio.to_thread(hash_files, Path(recipe.tensors))
    pooling = "" if recipe.pooling == "mean" else f"-{recipe.pooling}"
    name = f"{stem}-{recipe.precision}{pooling}-{weights_hash[:16]}-b{BUILDER_VERSION}.onnx"
    path = data_dir / "models" / name
    model = await asyncio.to_thread(read_sealed, path)
    if model is None:
        structlog.get_logger("models").info("building", path=str(path), replaces_broken=path.exists())
        await _build(path, recipe)
        model = await asyncio.to_thread(read_sealed, path)
    if model is None:
        raise Internal(f"the model file {path} was built but cannot be read back; check the disk", reason="MODEL_FILE")
    return model


async def _build(path: Path, recipe: Recipe) -> None:
    """Runs the builder as a process, which ends with this task."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _BUILDER, str(path), recipe.json),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        last = said.decode(errors="replace").strip()[-_MESSAGE_BYTES:]
        raise Internal(f"the model file {path} could not be built: {last}", reason="MODEL_BUILD")
