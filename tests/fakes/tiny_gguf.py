"""Writes a tiny random Llama as a GGUF file: a real tokenizer and chat template, and weights that mean nothing."""

import ast
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB = 2048
CONTEXT_TOKENS = 2048
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD_DIM = 2, 64, 160, 4, 2, 32
ROPE_BASE, NORM_EPSILON = 10_000.0, 1e-6
_WEIGHT_SCALE = 0.2


def _docstrings() -> Iterator[str]:
    """Text to train the tokenizer on: the standard library's own documentation."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text


def train_tokenizer() -> Tokenizer:
    """GPT-2's byte-level BPE, so that a character of several bytes takes several tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_docstrings(), trainer)
    return tokenizer


def write_tiny_gguf(path: Path, seed: int = 0) -> Path:
    """Writes the model to `path`; the same seed gives the same file."""
    tokenizer = json.loads(train_tokenizer().to_str())
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer)
    _add_tokenizer(writer, tokenizer["model"])
    for name, values in tiny_weights(seed):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_weights(seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """The model's tensors by their names in a GGUF file, in its order of rows; the same seed gives the same ones."""
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return random.normal(0, _WEIGHT_SCALE, shape).astype(np.float32)

    norm = np.ones(HIDDEN, np.float32)
    yield "token_embd.weight", drawn(VOCAB, HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", norm
        yield f"{block}.attn_q.weight", drawn(HEADS * HEAD_DIM, HIDDEN)
        yield f"{block}.attn_k.weight", drawn(KV_HEADS * HEAD_DIM, HIDDEN)
        yield f"{block}.attn_v.weight", drawn(KV_HEADS * HEAD_DIM, HIDDEN)
        yield f"{block}.attn_output.weight", drawn(HIDDEN, HEADS * HEAD_DIM)
        yield f"{block}.ffn_norm.weight", norm
        yield f"{block}.ffn_gate.weight", drawn(FEED_FORWARD, HIDDEN)
        yield f"{block}.ffn_up.weight", drawn(FEED_FORWARD, HIDDEN)
        yield f"{block}.ffn_down.weight", drawn(HIDDEN, FEED_FORWARD)
    yield "output_norm.weight", norm
    yield "output.weight", drawn(VOCAB, HIDDEN)


def _add_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: gguf.GGUFWriter, model: dict[str, object]) -> None:
    vocab = model["vocab"]
    merges = model["merges"]
    assert isinstance(vocab, dict)
    assert isinstance(merges, list)
    tokens = sorted(vocab, key=lambda token: int(vocab[token]))
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in merges])
    writer.add_bos_token_id(SPECIAL.index("<|bos|>"))
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_pad_token_id(SPECIAL.index("<|pad|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
