"""What the shell makes of what an engine can do: adapters, forms, text-only resumes, and an engine that breaks."""

import asyncio
import urllib.error
import urllib.request
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.worker.ports import About, Form, Structure
from tests.fakes.engine import ABOUT, FakeEngine
from tests.rpc.worker.harness import attached, free_port, running_worker
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1 import worker_pb2_grpc

ABLE = replace(
    ABOUT,
    structured_output=True,
    replays_structure=True,
    logprobs=True,
    adapters=("tale-fr", "tale-de"),
)
TEXT_ONLY = replace(ABOUT, text_only=True, tokenizer_fingerprint="text:tale")
JSON_OBJECT = chat_pb2.Sampling(structure=chat_pb2.Structure(json_object=True))


def start(**fields: object) -> pb.Start:
    return pb.Start(request=1, prompt=pb.Prompt(text="hello"), **fields)  # type: ignore[arg-type]


async def test_hello_says_what_the_engine_can_do() -> None:
    engine = FakeEngine(replace(ABLE, text_only=True))
    async with running_worker(open_with=engine.open()) as worker, attached(worker.address) as link:
        hello = link.messages[0].hello
        assert list(hello.adapters) == ["tale-fr", "tale-de"]
        assert hello.capabilities.structured_output
        assert hello.capabilities.replays_structure
        assert hello.capabilities.text_only


@pytest.mark.parametrize(
    ("model", "adapter"), [("", ""), ("tale", ""), ("tale-de", "tale-de")], ids=["unnamed", "model", "adapter"]
)
async def test_an_adapter_is_asked_for_like_a_model(model: str, adapter: str) -> None:
    engine = FakeEngine(ABLE)
    async with running_worker(open_with=engine.open()) as worker, attached(worker.address) as link:
        link.resumed[1] = 0
        await link.send(start=start(model=model))
        assert (await link.ended(1)).HasField("finish")
    assert engine.works[0].adapter == adapter


async def test_what_is_resumed_and_the_form_reach_the_engine() -> None:
    engine = FakeEngine(replace(TEXT_ONLY, structured_output=True, replays_structure=True))
    async with running_worker(open_with=engine.open()) as worker, attached(worker.address) as link:
        link.resumed[1] = 2
        await link.send(start=start(resume_token_ids=[0, 0], resume_text="once upon", sampling=JSON_OBJECT))
        await link.ended(1)
        assert link.answers[1].text == " a time"
    work = engine.works[0]
    assert (work.resume, work.resume_text) == ((0, 0), "once upon")
    assert work.sampling.structure == Structure(Form.JSON_OBJECT)


async def test_a_single_call_resumes_from_text_too() -> None:
    engine = FakeEngine(TEXT_ONLY)
    request = pb.GenerateRequest(prompt=pb.Prompt(text="hello"), resume_token_ids=[0], resume_text="once")
    async with running_worker(open_with=engine.open()) as worker, grpc.aio.insecure_channel(worker.address) as channel:
        events = [event async for event in worker_pb2_grpc.WorkerServiceStub(channel).Generate(request)]
    assert [(event.delta.index, event.delta.text) for event in events[1:-1]] == [(1, " upon a time")]
    assert (engine.works[0].resume, engine.works[0].resume_text) == ((0,), "once")


@pytest.mark.parametrize(
    ("about", "wire", "code", "field", "says"),
    [
        pytest.param(
            ABLE, start(model="other"), code_pb2.NOT_FOUND, "model", "'tale', 'tale-fr', 'tale-de'", id="other-model"
        ),
        pytest.param(
            ABOUT, start(sampling=JSON_OBJECT), code_pb2.INVALID_ARGUMENT, "sampling.structure", "fake", id="no-forms"
        ),
        pytest.param(
            replace(ABLE, replays_structure=False),
            start(sampling=JSON_OBJECT, resume_token_ids=[1]),
            code_pb2.INVALID_ARGUMENT,
            "resume_token_ids",
            "form",
            id="form-not-replayed",
        ),
        pytest.param(
            ABOUT,
            start(sampling=chat_pb2.Sampling(logprobs=1)),
            code_pb2.INVALID_ARGUMENT,
            "sampling.logprobs",
            "log probabilities",
            id="no-logprobs",
        ),
        pytest.param(
            ABOUT,
            start(resume_token_ids=[1], resume_text="once"),
            code_pb2.INVALID_ARGUMENT,
            "resume_text",
            "token ids alone",
            id="text-for-an-engine-of-ids",
        ),
        pytest.param(
            TEXT_ONLY,
            start(resume_text="once"),
            code_pb2.INVALID_ARGUMENT,
            "resume_token_ids",
            "one entry",
            id="text-without-its-count",
        ),
    ],
)
async def test_what_the_engine_cannot_do_is_refused(
    about: About, wire: pb.Start, code: int, field: str, says: str
) -> None:
    engine = FakeEngine(about)
    async with running_worker(open_with=engine.open()) as worker, attached(worker.address) as link:
        link.resumed[1] = len(wire.resume_token_ids)
        await link.send(start=wire)
        failure = (await link.ended(1)).failure
    assert (failure.code, failure.field) == (code, field)
    assert says in failure.message
    assert not engine.works


async def statuses(address: str, wanted: int) -> int:
    """Watches health until it is so."""
    async with grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        async for answer in watch:
            if answer.status == wanted:
                watch.cancel()
                return answer.status
    raise AssertionError("health ended")


async def readyz(port: int) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def test_a_broken_engine_is_known_at_once_everywhere_and_so_is_its_return() -> None:
    engine, admin_port = FakeEngine(holds_after=0), free_port()
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    async with (
        running_worker(open_with=engine.open(), admin_port=admin_port) as worker,
        attached(worker.address) as link,
        attached(worker.address, "router-2") as other,
    ):
        link.resumed[1] = link.resumed[2] = 0
        await link.send(start=start())
        await link.until(lambda link: 1 in link.answers)
        await statuses(worker.address, serving)

        engine.break_down("the GPU fell off the bus")
        ended = await link.ended(1)
        assert (ended.failure.code, ended.failure.reason) == (code_pb2.UNAVAILABLE, "ENGINE_BROKEN")
        assert link.load.broken == "the GPU fell off the bus"
        await other.until(lambda link: link.load.broken != "")
        await statuses(worker.address, not_serving)
        assert await readyz(admin_port) == (
            503,
            "the engine is broken and is being started again: the GPU fell off the bus\n",
        )

        again = start()
        again.request = 2
        await link.send(start=again)
        refused = (await link.ended(2)).failure
        assert (refused.code, refused.reason) == (code_pb2.UNAVAILABLE, "ENGINE_BROKEN")
        assert "the GPU fell off the bus" in refused.message
        assert len(engine.works) == 1

        engine.work_again()
        await other.until(lambda link: not link.load.broken)
        await statuses(worker.address, serving)
        assert (await readyz(admin_port))[0] == 200


async def test_an_engine_that_is_broken_from_the_start_is_not_ready() -> None:
    engine = FakeEngine(broken="no server at 127.0.0.1:1")
    async with running_worker(open_with=engine.open()) as worker, attached(worker.address) as link:
        assert link.messages[0].load.broken == "no server at 127.0.0.1:1"
        await statuses(worker.address, health_pb2.HealthCheckResponse.NOT_SERVING)
