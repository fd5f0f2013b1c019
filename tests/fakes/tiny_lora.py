"""Writes a LoRA adapter for the tiny model as a GGUF file: random, and strong enough to change every answer."""

from pathlib import Path

import gguf
import numpy as np

_RANK, _HIDDEN, _OUT, _ALPHA = 4, 64, 128, 16.0


def write_tiny_lora(path: Path, seed: int = 0) -> Path:
    """For the first layer's queries; another seed gives another adapter."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", _ALPHA)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", random.normal(0, 1.0, (_RANK, _HIDDEN)).astype(np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", random.normal(0, 1.0, (_OUT, _RANK)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
