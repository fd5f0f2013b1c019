"""Writes `tiny_gguf`'s random Llama as a folder in the Hugging Face layout: the same weights and tokenizer."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.fakes.tiny_gguf import (
    CONTEXT_TOKENS,
    FEED_FORWARD,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    NORM_EPSILON,
    ROPE_BASE,
    SPECIAL,
    TEMPLATE,
    VOCAB,
    tiny_weights,
    train_tokenizer,
)

_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROTATED = {"attn_q": HEADS, "attn_k": KV_HEADS}


def write_tiny_hf(folder: Path, seed: int = 0) -> Path:
    """Writes the model into `folder`, which it makes; the same seed gives the same files, and the GGUF file's model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(_tensors(seed)), folder / "model.safetensors", metadata={"format": "pt"})
    train_tokenizer().save(str(folder / "tokenizer.json"))
    bos, eos, pad = SPECIAL.index("<|bos|>"), SPECIAL.index("<|im_end|>"), SPECIAL.index("<|pad|>")
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float32",
            "vocab_size": VOCAB,
            "hidden_size": HIDDEN,
            "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": CONTEXT_TOKENS,
            "hidden_act": "silu",
            "rms_norm_eps": NORM_EPSILON,
            "rope_theta": ROPE_BASE,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
        },
    )
    _write_json(folder / "generation_config.json", {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad})
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[bos],
            "eos_token": SPECIAL[eos],
            "pad_token": SPECIAL[pad],
            "model_max_length": CONTEXT_TOKENS,
            "clean_up_tokenization_spaces": False,
            "chat_template": TEMPLATE,
        },
    )
    return folder


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _tensors(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    for name, values in tiny_weights(seed):
        if name in _OUTSIDE:
            yield _OUTSIDE[name], values
            continue
        _, layer, part, _ = name.split(".")
        yield f"model.layers.{layer}.{_INSIDE[part]}.weight", _unrotated(values, _ROTATED.get(part, 0))


def _unrotated(values: np.ndarray, heads: int) -> np.ndarray:
    """GGUF keeps the rows that RoPE turns together side by side; here the second half of a head follows the first."""
    if not heads:
        return values
    half = values.shape[0] // heads // 2
    return np.ascontiguousarray(values.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(values.shape))
