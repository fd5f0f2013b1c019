"""Tells a text's language with py3langid, where there is enough text to tell."""

import re
from functools import cache
from typing import Any

_SAMPLES = 3
_SAMPLE_CHARS = 2000
_MIN_LETTERS = 24
_MIN_PROBABILITY = 0.9
_LETTER = re.compile(r"[^\W\d_]")
_CODE = re.compile(r"([A-Za-z]{2})(?:[-_].*)?")


def language_of(text: str, declared: str) -> str:
    """An ISO 639-1 code; empty where it is unknown. What the document declares counts where its text does not tell."""
    sample = _sample(text)
    if len(_LETTER.findall(sample)) >= _MIN_LETTERS:
        code, probability = _identifier().classify(sample)
        if probability >= _MIN_PROBABILITY and len(code) == 2:
            return str(code)
    named = _CODE.fullmatch(declared.strip())
    return named.group(1).lower() if named else ""


def _sample(text: str) -> str:
    """The text's beginning, middle and end: a whole book takes long to count, and tells no more."""
    if len(text) <= _SAMPLES * _SAMPLE_CHARS:
        return text
    step = (len(text) - _SAMPLE_CHARS) // (_SAMPLES - 1)
    return "\n".join(text[at * step : at * step + _SAMPLE_CHARS] for at in range(_SAMPLES))


@cache
def _identifier() -> Any:
    # Its model takes a second to unpack, so a process does it once, with its first document.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped] # it ships none

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
