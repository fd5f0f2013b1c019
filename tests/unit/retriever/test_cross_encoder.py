"""The cross-encoder, with a tiny but real one."""

from pathlib import Path

import pytest

from services.kit.errors import FailedPrecondition
from services.retriever.cross_encoder import CrossEncoder
from tests.fakes import tiny_cross_encoder


@pytest.mark.parametrize("logits", [1, 2])
async def test_scores_come_in_order_and_between_0_and_1(tmp_path: Path, logits: int) -> None:
    encoder = CrossEncoder(tiny_cross_encoder.write(tmp_path / "model", logits=logits), 32, 1)
    texts = ["swan sings", "heron wades", "otter", *["nothing of it " * n for n in range(20)], "the heron"]
    scores = await encoder.score("heron wades", texts)
    assert len(scores) == len(texts)
    assert scores[1] > scores[-1] > scores[0] == pytest.approx(0.5)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert await encoder.score("heron", []) == []
    encoder.close()


@pytest.mark.parametrize("missing", ["model.onnx", "tokenizer.json"])
def test_a_folder_without_one_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    folder = tiny_cross_encoder.write(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(FailedPrecondition, match=missing):
        CrossEncoder(folder, 32, 1)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_cross_encoder.write(tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        CrossEncoder(folder, 32, 1)
