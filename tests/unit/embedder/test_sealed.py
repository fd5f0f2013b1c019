"""A model file is whole or it is no model file."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from services.embedder.models.minilm.sealed import read_sealed, write_sealed

BODY = bytes(range(256)) * 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "model.onnx"
    write_sealed(target, BODY)
    return target


def test_what_was_written_is_read(path: Path) -> None:
    content = read_sealed(path)
    assert content is not None
    assert content.startswith(BODY)
    assert [left.name for left in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[:-1], id="cut short by a byte"),
        pytest.param(lambda content: content[: len(content) // 2], id="cut in half"),
        pytest.param(lambda content: content[:1000] + b"\x00" + content[1001:], id="a changed byte"),
        pytest.param(lambda content: content + b"x", id="a byte too many"),
        pytest.param(lambda content: content[:-1] + b"g", id="a changed seal"),
        pytest.param(lambda content: b"not a model", id="something else"),
    ],
)
def test_damage_is_noticed(path: Path, damage: Callable[[bytes], bytes]) -> None:
    path.write_bytes(damage(path.read_bytes()))
    assert read_sealed(path) is None


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert read_sealed(tmp_path / "nothing.onnx") is None


def test_a_failed_write_leaves_the_old_file(path: Path) -> None:
    with pytest.raises(TypeError):
        write_sealed(path, "text")  # type: ignore[arg-type] # the failure under test
    assert read_sealed(path) is not None
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def test_a_sealed_model_is_an_onnx_model(minilm_dir: Path) -> None:
    (path,) = (minilm_dir / "models").glob("*.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=False)
    assert [entry.key for entry in model.metadata_props][-1] == "sha256"
