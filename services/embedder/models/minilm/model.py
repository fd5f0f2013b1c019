"""MiniLM behind the Model port: texts to token ids to vectors. Blocks; callers run it in threads."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from services.embedder.models.minilm.weights import Weights
from services.embedder.ports import ModelInfo, Tokens, Vectors

NAME = "all-minilm-l6-v2"
MAX_TOKENS = 256
_DIMENSIONS = 384
# A token is at most 100 characters of a word, and most are 3 to 5: this much of a text nearly always fills the limit.
_PREFIX_CHARS = 4096
# The last place where a word surely ends: at white space, or after an ideograph, each of which is a word to BERT.
_WORD_END = re.compile("(.*[ \\t\\n\\r\u3400-\u4dbf\u4e00-\u9fff])", re.DOTALL)


class MiniLM:
    """The int8 model in onnxruntime. `embed` may run in several threads at once; each takes one core."""

    def __init__(self, model: bytes, weights: Weights, fingerprint: str) -> None:
        self.info = ModelInfo(NAME, _DIMENSIONS, MAX_TOKENS, fingerprint, "onnxruntime int8")
        options = onnxruntime.SessionOptions()
        # One batch takes one core: on two cores, two batches side by side are a fifth faster than one on both.
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_file(str(weights.tokenizer))
        # The file pads and cuts at 128, which would spoil the vectors of everything longer.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def __repr__(self) -> str:
        return f"MiniLM({self.info.runtime} {self.info.fingerprint[:12]})"

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, cut at the limit."""
        prefixes = [_prefix(text) for text in texts]
        found = []
        for text, prefix, encoding in zip(texts, prefixes, self._tokenizer.encode_batch(prefixes), strict=True):
            # Where the beginning did not fill the limit, the rest counts too.
            whole = encoding if encoding.overflowing or len(prefix) == len(text) else self._tokenizer.encode(text)
            found.append(Tokens(tuple(whole.ids), truncated=bool(whole.overflowing)))
        return found

    def embed(self, batch: Sequence[Tokens]) -> Vectors:
        """One row for each text, of length 1."""
        shape = (len(batch), max(len(text.ids) for text in batch))
        ids = np.zeros(shape, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, text in enumerate(batch):
            ids[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        vectors: Vectors = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors


def _prefix(text: str) -> str:
    """The text's beginning up to the end of a word, with the same first tokens as the whole; or else the whole."""
    if len(text) <= _PREFIX_CHARS:
        return text
    found = _WORD_END.match(text, 0, _PREFIX_CHARS)
    return text[: found.end(1)] if found else text
