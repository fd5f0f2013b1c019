"""Models behind a real Triton server; skipped where its environment is missing."""

import asyncio
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.embedder.ports import Embedded
from services.kit.errors import Internal, InvalidArgument, Unavailable
from tests.fakes.triton.server import TritonServer, write_embeddings
from tests.rpc.embedder.loading import Load, embed

BATCH = 4
FORMS = [pytest.param("batched", id="Triton batches"), pytest.param("flat", id="a list of texts")]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """The same model in several forms: batched, flat, in half precision, and with a name that nobody asks for."""
    folder = tmp_path_factory.mktemp("triton")
    repository = write_embeddings(folder / "models", "batched", batch=BATCH)
    write_embeddings(repository, "flat")
    write_embeddings(repository, "half", data_type="TYPE_FP16")
    server = TritonServer(repository, folder / "triton.log")
    server.start()
    try:
        for name in ("batched", "flat", "half"):
            server.wait_ready(name)
        yield server
    finally:
        server.close()


def wanted(text: str) -> list[float]:
    found = np.zeros(64)
    for word in text.split():
        found[zlib.crc32(word.encode()) % 64] += 1.0
    return (found / np.linalg.norm(found)).tolist()


@pytest.mark.parametrize("name", [*FORMS, pytest.param("half", id="half precision")])
async def test_vectors_in_order_of_length_one(triton: TritonServer, load: Load, name: str) -> None:
    model = await load(kind="triton", url=triton.url, remote_name=name)
    assert (model.info.name, model.info.dimensions, model.info.runtime) == ("mine", 64, f"triton {name}")
    texts = ["one text", "another one with the same word word", "Füße und 字"]
    found = await embed(model, *texts)
    assert [one.vector.tolist() for one in found] == [pytest.approx(wanted(text), abs=1e-3) for text in texts]


async def test_a_batch_is_no_larger_than_tritons(triton: TritonServer, load: Load) -> None:
    model = await load(kind="triton", url=triton.url, remote_name="batched", batch_texts=32)
    assert model.batches.texts == BATCH
    assert len(await embed(model, *"abcd")) == BATCH


async def test_prefixes_go_before_texts(triton: TritonServer, load: Load) -> None:
    model = await load(kind="triton", url=triton.url, remote_name="flat", query_prefix="query: ")
    (found,) = await embed(model, "text", query=True)
    assert found.vector.tolist() == pytest.approx(wanted("query: text"), abs=1e-6)


@pytest.mark.parametrize("name", FORMS)
async def test_a_refused_text_costs_the_others_nothing(triton: TritonServer, load: Load, name: str) -> None:
    model = await load(kind="triton", url=triton.url, remote_name=name)
    prepared = await model.prepare(["one", "poison", "three"], query=False)
    found = await model.embed(prepared, None)
    assert [type(one) for one in found] == [Embedded, InvalidArgument, Embedded]
    assert "holds poison" in str(found[1])


async def test_a_model_that_triton_does_not_have(triton: TritonServer, load: Load) -> None:
    with pytest.raises(Internal, match="nobody's"):
        await load(kind="triton", url=triton.url, remote_name="nobody's", start_limit_s=5)


async def test_wrong_tensors_name_those_that_are_there(triton: TritonServer, load: Load) -> None:
    with pytest.raises(Internal, match=r"\['TEXT'\].*\['EMBEDDING'\].*set input_tensor") as caught:
        await load(kind="triton", url=triton.url, remote_name="flat", output_tensor="VECTOR", start_limit_s=5)
    assert caught.value.reason == "WRONG_TENSORS"


async def test_one_that_stands_still_is_away_and_comes_back(triton: TritonServer, load: Load) -> None:
    model = await load(kind="triton", url=triton.url, remote_name="flat", request_timeout_s=0.5, retries=0)
    with triton.stopped(), pytest.raises(Unavailable, match="flat"):
        await embed(model, "text")
    assert await embed(model, "text")


async def test_one_that_dies_is_away_and_found_again(load: Load, tmp_path: Path) -> None:
    server = TritonServer(write_embeddings(tmp_path / "models", "mine"), tmp_path / "triton.log")
    server.start()
    try:
        # It waits for a server that is not up yet.
        model = await load(kind="triton", url=server.url, retries=2)
        server.kill()
        with pytest.raises(Unavailable) as caught:
            await embed(model, "text")
        assert caught.value.reason == "REMOTE_AWAY"
        assert server.url in await model.why_away()
        server.start()
        await asyncio.to_thread(server.wait_ready, "mine")
        async with asyncio.timeout(10):
            while await model.why_away():
                await asyncio.sleep(0.05)
        assert await embed(model, "text")
    finally:
        server.close()
