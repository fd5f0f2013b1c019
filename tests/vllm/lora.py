"""Writes a LoRA adapter of random weights for the tiny model, in PEFT's layout."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.fakes.tiny_gguf import HEAD_DIM, HEADS, HIDDEN, LAYERS

RANK = 8


def write_lora(folder: Path, seed: int) -> Path:
    """Strong enough that the adapter's words are others than the model's."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for name, size in (("q_proj", HEADS * HEAD_DIM), ("o_proj", HIDDEN)):
            inside = HIDDEN if name == "q_proj" else HEADS * HEAD_DIM
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = chance.normal(0, 0.3, (RANK, inside)).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = chance.normal(0, 0.3, (size, RANK)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": RANK,
        "lora_alpha": 4 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "o_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
