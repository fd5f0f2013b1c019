"""Reads what a model's folder says of it: files, limits, pooling, prompts. Opens no weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.embedder.models.onnx.network import Pooling
from services.kit.errors import Unavailable

_ONNX = ("model.onnx", "onnx/model.onnx")
_POOLING: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
# Checkpoints whose graph can be built here.
BUILT_TYPES = ("bert", "roberta", "xlm-roberta")
# What transformers writes where a tokenizer has no limit of its own.
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Folder:
    """A model's files. Exactly one of `onnx` and `tensors` is there."""

    path: Path
    onnx: Path | None
    tensors: Path | None
    tokenizer: Path
    config: dict[str, Any]
    pooling: Pooling
    max_tokens: int
    query_prefix: str
    passage_prefix: str

    @property
    def bert(self) -> bool:
        """Whether its tokenizer splits words as BERT's does."""
        return self.config.get("model_type") == "bert"


def read_folder(path: Path) -> Folder:
    """Raises Unavailable that says what is missing and what to do about it."""
    if not path.is_dir():
        raise unusable(f"{path} is no folder; name the one that holds config.json, tokenizer.json and the weights")
    config = _json(path / "config.json")
    if not isinstance(config, dict):
        raise unusable(f"{path / 'config.json'} is missing: the folder is not one of a model as Hugging Face writes it")
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise unusable(
            f"{tokenizer} is missing; save the tokenizer in its fast form, with "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
        )
    found = next((path / name for name in _ONNX if (path / name).is_file()), None)
    query, passage = _prompts(path)
    return Folder(
        path=path,
        onnx=found,
        tensors=None if found else _tensors(path, config),
        tokenizer=tokenizer,
        config=config,
        pooling=_pooling(path),
        max_tokens=_max_tokens(path, config),
        query_prefix=query,
        passage_prefix=passage,
    )


def unusable(why: str) -> Unavailable:
    """The model cannot be served."""
    return Unavailable(why, reason="MODEL_UNUSABLE")


def _tensors(path: Path, config: dict[str, Any]) -> Path:
    tensors, kind = path / "model.safetensors", config.get("model_type")
    export = f"export it with `optimum-cli export onnx --model {path} --task feature-extraction {path}/onnx`"
    if not tensors.is_file():
        raise unusable(f"{path} holds neither {' nor '.join(_ONNX)} nor model.safetensors; {export}")
    if kind not in BUILT_TYPES or config.get("hidden_act", "gelu") != "gelu":
        raise unusable(
            f"{path} holds no .onnx file, and a graph is built here only from safetensors of {', '.join(BUILT_TYPES)} "
            f"with gelu, not of {kind} with {config.get('hidden_act')}; {export}"
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise unusable(f"{path} has {config['position_embedding_type']} positions; {export}")
    return tensors


def _pooling(path: Path) -> Pooling:
    modules = _json(path / "modules.json") or []
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind not in _KNOWN_MODULES:
            raise unusable(
                f"{path / 'modules.json'} has a step {kind}; only {', '.join(_KNOWN_MODULES)} are known here"
            )
    folder = next((str(m.get("path", "")) for m in modules if str(m.get("type", "")).endswith("Pooling")), "1_Pooling")
    settings = _json(path / folder / "config.json")
    if settings is None:
        return "mean"
    chosen = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True]
    if len(chosen) != 1 or chosen[0] not in _POOLING:
        raise unusable(
            f"{path / folder / 'config.json'} asks for {', '.join(chosen) or 'no pooling'}; known are "
            f"{', '.join(_POOLING)}, one of them"
        )
    return _POOLING[chosen[0]]


def _max_tokens(path: Path, config: dict[str, Any]) -> int:
    """The least of what sentence-transformers, the tokenizer and the positions allow."""
    positions = int(config.get("max_position_embeddings", 512))
    if config.get("model_type") in ("roberta", "xlm-roberta"):
        # Its positions begin after the one of padding.
        positions -= int(config.get("pad_token_id", 1)) + 1
    own = (_json(path / "sentence_bert_config.json") or {}).get("max_seq_length")
    tokenizer = (_json(path / "tokenizer_config.json") or {}).get("model_max_length")
    return min(int(limit) for limit in (positions, own, tokenizer) if limit and limit < _NO_LIMIT)


def _prompts(path: Path) -> tuple[str, str]:
    """The prefixes of queries and passages by the names that sentence-transformers and its models use for them."""
    prompts = (_json(path / "config_sentence_transformers.json") or {}).get("prompts") or {}
    query = prompts.get("query", "")
    passage = next((prompts[name] for name in ("passage", "document", "corpus") if prompts.get(name)), "")
    return str(query or ""), str(passage)


def _json(path: Path) -> Any:
    """The file's content, or None where it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise unusable(f"{path} cannot be read: {error}") from error
