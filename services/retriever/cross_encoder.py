"""A cross-encoder in onnxruntime: reads query and passage together and says how well one answers the other."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from services.kit.errors import Exhausted, FailedPrecondition

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
# Pairs that are read at a time: between two batches a search that was cancelled ends.
_BATCH_PAIRS = 8
# Searches that may wait for their turn; beyond it they are refused.
_WAITING_LIMIT = 256
_RETRY_DELAY_S = 0.5


class CrossEncoder:
    """Implements the port Reranker. `close` after use. Scores lie between 0 and 1."""

    def __init__(self, folder: Path, max_tokens: int, threads: int) -> None:
        """Raises FailedPrecondition where the folder does not hold a cross-encoder."""
        self._folder = folder
        missing = [name for name in (MODEL_FILE, TOKENIZER_FILE) if not (folder / name).is_file()]
        if missing:
            raise FailedPrecondition(
                f"retriever.reranker is {folder}, which has no {' and no '.join(missing)}; a cross-encoder's folder "
                f"holds {MODEL_FILE} and {TOKENIZER_FILE}",
                reason="NO_CROSS_ENCODER",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        except Exception as error:
            raise FailedPrecondition(
                f"the cross-encoder in {folder} cannot be read: {error}", reason="CROSS_ENCODER_UNREADABLE"
            ) from error
        self._tokenizer.no_padding()
        # The passage is cut, and never the query, which is short.
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._inputs = {found.name for found in self._session.get_inputs()}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="reranker")
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    def __repr__(self) -> str:
        return f"CrossEncoder({self._folder} waiting={self._waiting})"

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, in order. Raises Exhausted where too many wait."""
        if self._waiting >= _WAITING_LIMIT:
            raise Exhausted(
                f"{_WAITING_LIMIT} searches wait for the cross-encoder; try again, or search without it",
                reason="RERANKER_FULL",
                retry_delay_s=_RETRY_DELAY_S,
            )
        self._waiting += 1
        try:
            async with self._turn:
                return await self._score(query, texts)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends its thread."""
        self._executor.shutdown(cancel_futures=True)

    async def _score(self, query: str, texts: Sequence[str]) -> list[float]:
        loop = asyncio.get_running_loop()
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        scores = [0.0] * len(texts)
        for at in range(0, len(order), _BATCH_PAIRS):
            places = order[at : at + _BATCH_PAIRS]
            found = await loop.run_in_executor(self._executor, self._batch, query, [texts[place] for place in places])
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        return scores

    def _batch(self, query: str, texts: list[str]) -> list[float]:
        encoded = self._tokenizer.encode_batch([(query, text) for text in texts])
        width = max(len(one.ids) for one in encoded)
        columns = {
            "input_ids": [one.ids for one in encoded],
            "attention_mask": [one.attention_mask for one in encoded],
            "token_type_ids": [one.type_ids for one in encoded],
        }
        feed = {
            name: np.asarray([row + [0] * (width - len(row)) for row in rows], np.int64)
            for name, rows in columns.items()
            if name in self._inputs
        }
        logits = np.asarray(self._session.run(None, feed)[0], np.float64).reshape(len(texts), -1)
        # One logit is that of relevance; of two, the second is, against the first.
        relevant = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        return [float(score) for score in 1.0 / (1.0 + np.exp(-relevant))]
