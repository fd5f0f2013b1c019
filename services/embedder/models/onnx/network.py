"""An encoder on onnxruntime behind the Network port: texts to token ids to vectors. Blocks; callers use threads."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from services.embedder.ports import ModelInfo, Prepared, Vectors
from services.kit.errors import Internal, Unavailable

Pooling = Literal["mean", "cls", "last"]

# A token is at most 100 characters of a word, and most are 3 to 5: this much of a text nearly always fills the limit.
_PREFIX_CHARS_PER_TOKEN = 16
# The last place where a word surely ends: at white space; to BERT also after an ideograph, each of which is a word.
_WORD_END = re.compile(r"(.*[ \t\n\r])", re.DOTALL)
_WORD_END_BERT = re.compile("(.*[ \\t\\n\\r\u3400-\u4dbf\u4e00-\u9fff])", re.DOTALL)
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_TINY = 1e-12
# On CPUs the fused operator takes ten times as long as the addition and the normalisation that it replaces.
_SLOWER = ["SkipLayerNormFusion"]
# From here on a text alone fills a core's vector units, and padding and its mask only cost time.
_ALONE_TOKENS = 128


class OnnxNetwork:
    """`embed` may run in several threads at once; each takes one core. `model` is the file's bytes or its path.

    A graph that gives one vector for each token is pooled here. Raises Unavailable where the graph wants other inputs.
    """

    def __init__(
        self, info: ModelInfo, model: bytes | str, tokenizer: Tokenizer, pooling: Pooling, *, bert: bool = True
    ) -> None:
        self.info = info
        options = onnxruntime.SessionOptions()
        # One batch takes one core: on two cores, two batches side by side are a fifth faster than one on both.
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
            )
        except Exception as error:
            raise Unavailable(f"onnxruntime cannot load {info.name}: {error}", reason="MODEL_UNUSABLE") from error
        self._inputs = {one.name for one in self._session.get_inputs()}
        if strange := self._inputs - _INPUTS:
            raise Unavailable(
                f"the graph of {info.name} asks for {', '.join(sorted(strange))}, which a text encoder does not have; "
                "export it for feature extraction",
                reason="MODEL_UNUSABLE",
            )
        self._pooling = pooling
        self._word_end = _WORD_END_BERT if bert else _WORD_END
        self._prefix_chars = max(4096, info.max_tokens * _PREFIX_CHARS_PER_TOKEN)
        self._tokenizer: Any = tokenizer
        # Files often pad and cut at another length, which would spoil the vectors of everything longer.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(info.max_tokens)

    def __repr__(self) -> str:
        return f"OnnxNetwork({self.info.name} {self.info.runtime} {self.info.fingerprint[:12]})"

    def encode(self, texts: Sequence[str]) -> list[Prepared]:
        """Token ids of each text, cut at the limit."""
        prefixes = [self._prefix(text) for text in texts]
        found = []
        for text, prefix, encoding in zip(texts, prefixes, self._tokenizer.encode_batch_fast(prefixes), strict=True):
            # Where the beginning did not fill the limit, the rest counts too.
            whole = encoding if encoding.overflowing or len(prefix) == len(text) else self._tokenizer.encode(text)
            found.append(Prepared(len(whole.ids), bool(whole.overflowing), tuple(whole.ids)))
        return found

    def embed(self, batch: Sequence[Prepared]) -> Vectors:
        """One row for each text, of length 1."""
        found = np.empty((len(batch), self.info.dimensions), np.float32)
        for rows in _runs([len(text.ids) for text in batch]):
            found[rows] = self._run([batch[row] for row in rows])
        return normalised(found)

    def _run(self, batch: Sequence[Prepared]) -> Vectors:
        shape = (len(batch), max(len(text.ids) for text in batch))
        ids = np.zeros(shape, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, text in enumerate(batch):
            ids[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        outputs = self._session.run(None, {name: feed[name] for name in self._inputs})
        flat = next((one for one in outputs if one.ndim == 2), None)
        found = pool(outputs[0], mask, self._pooling) if flat is None else flat
        if found.shape[1] != self.info.dimensions:
            message = f"{self.info.name} gave vectors of {found.shape[1]} dimensions, not {self.info.dimensions}"
            raise Internal(message, reason="WRONG_DIMENSIONS")
        return found

    def _prefix(self, text: str) -> str:
        """The text's beginning up to the end of a word, with the same first tokens as the whole; or else the whole."""
        if len(text) <= self._prefix_chars:
            return text
        found = self._word_end.match(text, 0, self._prefix_chars)
        return text[: found.end(1)] if found else text


def _runs(lengths: Sequence[int]) -> list[list[int]]:
    """Which texts run together: all of them, but long ones only with others of their very length."""
    if max(lengths) < _ALONE_TOKENS:
        return [list(range(len(lengths)))]
    runs: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        runs.setdefault(length, []).append(row)
    return list(runs.values())


def pool(hidden: Any, mask: Any, pooling: Pooling) -> Vectors:
    """One vector for each text out of one for each token (batch, tokens, dimensions); padding does not count."""
    if pooling == "cls":
        first: Vectors = hidden[:, 0]
        return first
    if pooling == "last":
        last: Vectors = hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
        return last
    weights = mask[:, :, None].astype(np.float32)
    mean: Vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), _TINY)
    return mean


def normalised(vectors: Any) -> Vectors:
    """The rows as float32 of length 1; a row of zeros stays one."""
    rows = np.asarray(vectors, np.float32)
    found: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return found
