"""BM25 weights of texts as sparse vectors, by Qdrant's own analyser, so that every store counts the same words."""

import math
from dataclasses import dataclass
from typing import Any

import qdrant_edge as qdrant

from services.kit.settings.retriever import RetrieverSettings
from services.retriever.document import Spec

LANGUAGES = (
    "arabic",
    "azerbaijani",
    "basque",
    "bengali",
    "catalan",
    "chinese",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hebrew",
    "hinglish",
    "hungarian",
    "indonesian",
    "italian",
    "japanese",
    "kazakh",
    "nepali",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "slovene",
    "spanish",
    "swedish",
    "tajik",
    "turkish",
)
"""Languages whose stop words it knows; it stems those that Snowball stems."""


@dataclass(frozen=True, slots=True)
class Bm25Settings:
    """How words are weighed; fixed when a collection is made, since its vectors hold the weights."""

    language: str
    k: float
    b: float
    average_words: float


def bm25_of(settings: RetrieverSettings, spec: Spec) -> Bm25Settings:
    """How a collection's words are weighed."""
    return Bm25Settings(spec.bm25_language, settings.bm25_k, settings.bm25_b, settings.bm25_average_words)


def idf(chunks: int, with_word: float) -> float:
    """How much a word counts that is in `with_word` of so many chunks (Robertson and Zaragoza 2009, never below 0)."""
    return math.log(1.0 + (chunks - with_word + 0.5) / (with_word + 0.5))


class Words:
    """Turns texts into sparse vectors; the stores multiply the weights by how rare each word is."""

    def __init__(self, settings: Bm25Settings) -> None:
        self._bm25: Any = qdrant.Bm25(
            qdrant.Bm25Config(
                k=settings.k, b=settings.b, avg_len=settings.average_words, language=settings.language.lower()
            )
        )

    def of_document(self, text: str) -> tuple[list[int], list[float]]:
        """Numbers of its words, and the weight of each."""
        found = self._bm25.embed_document(text)
        return list(found.indices), list(found.values)

    def of_query(self, text: str) -> tuple[list[int], list[float]]:
        """Numbers of its words, each of weight 1; empty where there are only stop words."""
        found = self._bm25.embed_query(text)
        return list(found.indices), list(found.values)
