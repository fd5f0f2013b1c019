"""Brings MiniLM up: finds or builds its model file, then opens it, all without holding the event loop."""

import asyncio
import sys
from pathlib import Path

import structlog

from services.embedder.models.minilm.model import MiniLM
from services.embedder.models.minilm.sealed import read_sealed
from services.embedder.models.minilm.weights import Weights, find_weights, hash_files
from services.kit.errors import Internal

# Raised whenever the builder would write another file from the same weights.
BUILDER_VERSION = 1
_BUILDER = "services.embedder.models.minilm.build"
_MESSAGE_BYTES = 2000


def model_path(data_dir: Path, weights_hash: str) -> Path:
    """Where the model built from these weights by this builder is kept."""
    return data_dir / "models" / f"minilm-int8-{weights_hash[:16]}-b{BUILDER_VERSION}.onnx"


async def load_minilm(data_dir: Path) -> MiniLM:
    """The model, ready. The first start builds its file in a few seconds; raises Internal where that fails."""
    weights = find_weights()
    weights_hash, fingerprint = await asyncio.to_thread(_hashes, weights)
    path = model_path(data_dir, weights_hash)
    model = await asyncio.to_thread(read_sealed, path)
    if model is None:
        structlog.get_logger("minilm").info("building", path=str(path), replaces_broken=path.exists())
        await _build(path)
        model = await asyncio.to_thread(read_sealed, path)
    if model is None:
        raise Internal(f"the model file {path} was built but cannot be read back; check the disk", reason="MODEL_FILE")
    return await asyncio.to_thread(MiniLM, model, weights, fingerprint)


def _hashes(weights: Weights) -> tuple[str, str]:
    return hash_files(weights.tensors), hash_files(weights.tensors, weights.tokenizer)


async def _build(path: Path) -> None:
    """Runs the builder as a process, which ends with this task."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _BUILDER, str(path), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
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
