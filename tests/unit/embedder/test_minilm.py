"""MiniLM itself: close to its fp32 self, the same in any batch, sensible, and truthful about what it cut."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from services.embedder.models.minilm.build import Recipe, encoder_model
from services.embedder.models.minilm.model import MAX_TOKENS
from services.embedder.models.minilm.weights import find_weights
from services.embedder.models.onnx.network import OnnxNetwork
from services.embedder.ports import Prepared, Vectors

SENTENCES = [
    "A man is eating a piece of bread.",
    "Someone eats some bread.",
    "The stock market fell sharply on Monday.",
    "Share prices dropped steeply at the start of the week.",
    "How do I install the package on Linux?",
    "Setup instructions for Linux systems.",
    "Mitochondria produce most of the cell's chemical energy.",
    "The powerhouse of the cell generates ATP.",
    "Der Zug nach München fährt um acht Uhr ab.",
    "gRPC streams multiplex many requests over a single HTTP/2 connection, which keeps latency low under load.",
    "x",
    "1, 2, 3, 5, 8, 13: each number is the sum of the two before it. " * 5,
]


class Fp32:
    """The same graph before it is quantised."""

    def __init__(self) -> None:
        weights = find_weights()
        recipe = Recipe(str(weights.tensors), str(weights.config), "fp32")
        self._session = onnxruntime.InferenceSession(encoder_model(recipe).SerializeToString())

    def embed(self, tokens: Prepared) -> npt.NDArray[np.float32]:
        ids = np.array([tokens.ids], np.int64)
        found: Vectors = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
        return found[0]


@pytest.fixture(scope="module")
def fp32() -> Fp32:
    return Fp32()


def embed(minilm: OnnxNetwork, *texts: str) -> Vectors:
    return minilm.embed(minilm.encode(texts))


def cosines(minilm: OnnxNetwork, fp32: Fp32, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    encoded = minilm.encode(texts)
    found = np.stack([minilm.embed([tokens])[0] for tokens in encoded])
    wanted = np.stack([fp32.embed(tokens) for tokens in encoded])
    result: npt.NDArray[np.float32] = (found * wanted).sum(axis=1)
    return result


def test_int8_keeps_to_fp32(minilm: OnnxNetwork, fp32: Fp32) -> None:
    found = cosines(minilm, fp32, SENTENCES)
    assert found.mean() >= 0.99
    assert found.min() >= 0.95


def test_int8_keeps_to_fp32_on_abstracts(minilm: OnnxNetwork, fp32: Fp32, data_dir: Path) -> None:
    with (data_dir / "scifact" / "corpus_train.csv").open() as file:
        texts = [row["abstract"] for row, _ in zip(csv.DictReader(file), range(40), strict=False)]
    assert cosines(minilm, fp32, texts).mean() >= 0.99


def test_fp32_is_the_published_model(fp32: Fp32, minilm: OnnxNetwork) -> None:
    # What sentence-transformers gives for this text, as its model card's example prints it.
    (tokens,) = minilm.encode(["This is an example sentence"])
    vector = fp32.embed(tokens)
    assert vector[:5].tolist() == pytest.approx([0.0677, 0.0635, 0.0487, 0.0793, 0.0374], abs=2e-4)


def test_vectors_have_length_one(minilm: OnnxNetwork) -> None:
    assert np.linalg.norm(embed(minilm, *SENTENCES), axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_batch_of_unequal_lengths_changes_little(minilm: OnnxNetwork) -> None:
    together = embed(minilm, *SENTENCES)
    alone = np.concatenate([embed(minilm, text) for text in SENTENCES])
    assert (together * alone).sum(axis=1).min() >= 0.95


def test_a_paraphrase_is_closer_than_anything_else(minilm: OnnxNetwork) -> None:
    vectors = embed(minilm, *SENTENCES[:8])
    scores = vectors @ vectors.T - 2 * np.eye(8)
    assert scores.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


@pytest.mark.parametrize(
    ("text", "tokens", "truncated"),
    [
        pytest.param("hello world", 4, False, id="two words and two special tokens"),
        pytest.param(" ", 2, False, id="only space"),
        pytest.param("word " * 254, MAX_TOKENS, False, id="just fits"),
        pytest.param("word " * 255, MAX_TOKENS, True, id="one too many"),
        pytest.param("word " * 100_000, MAX_TOKENS, True, id="far too many"),
        pytest.param("字" * 100_000, MAX_TOKENS, True, id="without a space"),
        pytest.param("a" * 100_000, 3, False, id="one endless word"),
        pytest.param("a " + "b" * 100_000 + " c", 5, False, id="an endless word in the middle"),
        pytest.param(" " * 50_000 + "word", 3, False, id="words after much space"),
        pytest.param("nul \x00 and \U0001f600", 6, False, id="odd characters"),
    ],
)
def test_tokens_and_truncation(minilm: OnnxNetwork, text: str, tokens: int, truncated: bool) -> None:
    (found,) = minilm.encode([text])
    assert (len(found.ids), found.truncated) == (tokens, truncated)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" ".join(SENTENCES) * 20, id="sentences"),
        pytest.param("\n".join(SENTENCES) * 20, id="lines"),
        pytest.param("重庆是一个很大的城市ABC，" * 2000, id="ideographs and letters"),
        pytest.param("a" * 4090 + "b\u0301\u0301cd e " + "f " * 3000, id="a word across the place of the cut"),
        pytest.param("x\x1cy" * 5000 + " z" * 300, id="control characters within a word"),
        pytest.param("[SEP] " * 3000, id="special tokens"),
    ],
)
def test_a_long_text_is_read_as_if_it_were_tokenised_whole(minilm: OnnxNetwork, text: str) -> None:
    (found,) = minilm.encode([text])
    whole = minilm._tokenizer.encode(text)
    assert (list(found.ids), found.truncated) == (whole.ids, bool(whole.overflowing))


def test_the_model_says_what_it_is(minilm: OnnxNetwork) -> None:
    info = minilm.info
    assert (info.name, info.dimensions, info.max_tokens) == ("all-minilm-l6-v2", 384, 256)
    assert (info.runtime, len(info.fingerprint)) == ("onnxruntime int8", 64)
