"""The real router over real workers, whose engines alone are scripted: what the two have to agree on."""

import asyncio
from dataclasses import replace

import pytest

from services.worker.ports import About
from tests.fakes.engine import ABOUT, FakeEngine
from tests.rpc.router.conftest import BOTH_WAYS, Router, Start
from tests.rpc.router.test_chat import events, kinds, text_of
from tests.rpc.worker.harness import running_worker
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

FORM = chat_pb2.Sampling(structure=chat_pb2.Structure(regex="once.*"))
EXACT = replace(ABOUT, structured_output=True, replays_structure=True, adapters=("tale-fr",))
TEXT_ONLY = replace(EXACT, text_only=True, tokenizer_fingerprint="text:tale")
WORDS = ("once", "", " upon a", " time")
"""The second token's text is held back, as for a stop string."""


async def announced(router: Router, worker_id: str, address: str) -> None:
    await router.stub.RegisterWorker(router_pb2.RegisterWorkerRequest(worker_id=worker_id, address=address))


@BOTH_WAYS
@pytest.mark.parametrize("about", [EXACT, TEXT_ONLY], ids=["ids", "text"])
async def test_an_adapters_answer_in_a_form_moves_when_its_engine_breaks(start: Start, about: About) -> None:
    breaking, living = FakeEngine(about, WORDS, holds_after=2), FakeEngine(about, WORDS)
    async with (
        start() as router,
        running_worker(breaking.open(), worker_id="w1") as first,
        running_worker(living.open(), worker_id="w2") as second,
    ):
        await announced(router, "w1", first.address)
        await router.serving("w1")
        call = asyncio.ensure_future(events(router.chat(model="tale-fr", sampling=FORM)))
        await router.in_flight(1)
        while not breaking.works:
            await asyncio.sleep(0)
        await announced(router, "w2", second.address)
        await router.serving("w1", "w2")
        breaking.break_down("the GPU fell off the bus")
        found = await call
        rows = await router.serving("w1", state=router_pb2.Worker.STATE_SUSPECT)
        assert "the GPU fell off the bus" in rows[0].state_reason
        breaking.work_again()
        await router.serving("w1", "w2")
    assert kinds(found) == ["accepted", "tokens", "moved", "tokens", "finished"]
    assert text_of(found) == "once upon a time"
    (work,) = living.works
    assert (work.adapter, work.sampling.structure) == ("tale-fr", breaking.works[0].sampling.structure)
    expected = ((0, 0), "once") if about.text_only else ((100, 101), "")
    assert (work.resume, work.resume_text) == expected
