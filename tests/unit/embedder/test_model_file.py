"""The model's file: built once, used again, mended, and built by several at once without harm."""

import asyncio
from pathlib import Path

import pytest

from services.embedder.models.minilm.load import load_minilm
from services.embedder.models.minilm.sealed import read_sealed


def only(folder: Path) -> Path:
    (path,) = (folder / "models").glob("*.onnx")
    return path


async def test_a_restart_uses_the_file(minilm_dir: Path) -> None:
    before = only(minilm_dir).stat()
    await load_minilm(minilm_dir)
    after = only(minilm_dir).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


async def test_a_broken_file_is_built_again_while_the_loop_runs(minilm_dir: Path, tmp_path: Path) -> None:
    whole = only(minilm_dir).read_bytes()
    path = tmp_path / "models" / only(minilm_dir).name
    path.parent.mkdir()
    path.write_bytes(whole[: len(whole) // 2])
    left_behind = path.with_name(f".{path.name}.killed")
    left_behind.write_bytes(b"half a model")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    model = await load_minilm(tmp_path)
    ticking.cancel()
    assert model.embed(model.encode(["text"])).shape == (1, 384)
    assert read_sealed(path) == whole
    assert not left_behind.exists()
    # The build takes seconds; a loop that it held would have ticked a handful of times.
    assert ticks > 30


async def test_two_that_start_at_once_share_one_file(minilm_dir: Path, tmp_path: Path) -> None:
    models = await asyncio.gather(load_minilm(tmp_path), load_minilm(tmp_path))
    assert len({model.info.fingerprint for model in models}) == 1
    assert only(tmp_path).read_bytes() == only(minilm_dir).read_bytes()


async def test_cancelling_ends_the_builder(tmp_path: Path) -> None:
    loading = asyncio.create_task(load_minilm(tmp_path))
    while not (tmp_path / "models").exists():
        await asyncio.sleep(0.01)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert list((tmp_path / "models").glob("*.onnx")) == []
