"""What workers can and cannot do, as clients see it: adapters, forms of answers, text-only engines, broken engines."""

import asyncio
import json

import grpc
import grpc.aio
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc import code_pb2

from services.kit.errors import from_rpc
from tests.fakes.worker import FakeWorker, listening
from tests.rpc.router.conftest import BOTH_WAYS, Router, Start
from tests.rpc.router.test_chat import events, kinds, text_of
from tests.rpc.router.test_failover import queued
from weft.chat.v1 import chat_pb2
from weft.openai.v1 import openai_pb2
from weft.router.v1 import router_pb2
from weft.worker.v1 import worker_pb2

JSON_OBJECT = chat_pb2.Sampling(structure=chat_pb2.Structure(json_object=True))
BROKEN = worker_pb2.Failure(code=code_pb2.UNAVAILABLE, reason="ENGINE_BROKEN", message="the GPU fell off the bus")


async def refused(router: Router, **fields: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await events(router.chat(**fields))
    return caught.value


async def test_adapters_are_asked_for_and_listed_like_models(start: Start) -> None:
    plain, able = FakeWorker("w1"), FakeWorker("w2", adapters=("tale-fr", "tale-de"))
    async with start(plain, able) as router:
        found = await events(router.chat(model="tale-de"))
        unnamed = await events(router.chat())
        models = {m.name: m for m in (await router.stub.ListModels(router_pb2.ListModelsRequest())).models}
        listed = json.loads((await router.models.ListModels(openai_pb2.ListModelsRequest())).data)
        rows = (await router.stub.ListWorkers(router_pb2.ListWorkersRequest(model="tale-fr"))).workers
        explained = await router.stub.ExplainPick(
            router_pb2.ExplainPickRequest(
                chat=router_pb2.StreamChatRequest(model="tale-fr", messages=[chat_pb2.Message(content="hi")])
            )
        )
    assert (found[0].accepted.worker_id, found[0].accepted.model) == ("w2", "tale-de")
    assert able.starts[0].model == "tale-de"
    assert unnamed[0].accepted.model == "tale"
    assert {name: m.known_workers for name, m in models.items()} == {"tale": 2, "tale-de": 1, "tale-fr": 1}
    assert [m["id"] for m in listed["data"]] == ["tale", "tale-de", "tale-fr"]
    assert [(row.worker_id, list(row.adapters)) for row in rows] == [("w2", ["tale-fr", "tale-de"])]
    assert {c.worker_id: c.lost_because for c in explained.candidates} == {"w2": "", "w1": "serves another model"}


async def test_a_place_goes_to_whoever_waited_longest_for_any_of_the_workers_names(start: Start) -> None:
    worker = FakeWorker(max_running=1, max_waiting=0, hold_after=0, adapters=("tale-fr",))
    async with start(worker) as router:
        calls = [asyncio.ensure_future(events(router.chat("running")))]
        await worker.started.get()
        for waiting, (text, model) in enumerate([("one", "tale-fr"), ("two", "tale"), ("three", "tale-fr")], 1):
            calls.append(asyncio.ensure_future(events(router.chat(text, model=model))))
            await queued(router, waiting)
        worker.go.set()
        await asyncio.gather(*calls)
    assert [s.prompt.conversation.messages[0].content for s in worker.starts] == ["running", "one", "two", "three"]


@BOTH_WAYS
async def test_a_form_goes_to_a_worker_that_holds_to_it(start: Start) -> None:
    async with start(FakeWorker("w1"), able := FakeWorker("w2", structured_output=True)) as router:
        for _ in range(3):
            found = await events(router.chat(sampling=JSON_OBJECT))
            assert found[0].accepted.worker_id == "w2"
    assert able.starts[0].sampling.structure.json_object


@pytest.mark.parametrize(
    ("structure", "field"),
    [
        pytest.param(chat_pb2.Structure(json_object=True), "sampling.structure", id="nobody-can"),
        pytest.param(chat_pb2.Structure(), "sampling.structure", id="no-form"),
        pytest.param(chat_pb2.Structure(json_schema="["), "sampling.structure.json_schema", id="no-schema"),
    ],
)
async def test_a_form_that_nobody_can_hold_to_is_the_callers_fault(
    start: Start, structure: chat_pb2.Structure, field: str
) -> None:
    full = FakeWorker("w1", max_running=1, max_waiting=0, hold_after=0)
    async with start(full) as router:
        running = asyncio.ensure_future(events(router.chat()))
        await full.started.get()
        async with asyncio.timeout(5):
            error = await refused(router, sampling=chat_pb2.Sampling(structure=structure))
        full.go.set()
        await running
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc(error).field == field


async def test_who_waits_for_a_form_holds_up_nobody(start: Start) -> None:
    plain = FakeWorker("w1", max_running=1, max_waiting=0, hold_after=0)
    able = FakeWorker("w2", max_running=1, max_waiting=0, hold_after=0, structured_output=True)
    async with start(plain, able) as router:
        calls = [asyncio.ensure_future(events(router.chat(sampling=JSON_OBJECT)))]
        await able.started.get()
        calls.append(asyncio.ensure_future(events(router.chat())))
        await plain.started.get()
        calls.append(asyncio.ensure_future(events(router.chat("form", sampling=JSON_OBJECT))))
        await queued(router, 1)
        calls.append(asyncio.ensure_future(events(router.chat("free"))))
        await queued(router, 2)
        plain.go.set()
        async with asyncio.timeout(5):
            assert text_of(await calls[3]) == "once upon a time"
        able.go.set()
        await asyncio.gather(*calls)
    assert [s.prompt.conversation.messages[0].content for s in able.starts][1:] == ["form"]


@pytest.mark.parametrize("replays", [True, False], ids=["replayed", "not-replayed"])
async def test_an_answer_with_a_form_goes_on_only_where_the_form_is_replayed(start: Start, replays: bool) -> None:
    dying = FakeWorker("w1", die_once_after=2, structured_output=True, replays_structure=replays)
    living = FakeWorker("w2", structured_output=True, replays_structure=replays)
    async with start(dying, living) as router:
        async with asyncio.timeout(5):
            found = await events(router.chat(sampling=JSON_OBJECT))
    if replays:
        assert kinds(found) == ["accepted", "tokens", "moved", "tokens", "finished"]
        assert text_of(found) == "once upon a time"
    else:
        assert kinds(found) == ["accepted", "tokens", "failed"]
        assert found[-1].failed.reason == "CANNOT_RESUME"
        assert "form" in found[-1].failed.message
        assert not living.starts


@BOTH_WAYS
async def test_an_answer_of_text_goes_on_from_its_text(start: Start) -> None:
    # The second token's text is held back, as for a stop string: the client has two tokens and one word.
    words = ("once", "", " upon a", " time")
    dying = FakeWorker("w1", die_once_after=2, words=words, text_only=True, fingerprint="text:tale")
    living = FakeWorker("w2", words=words, text_only=True, fingerprint="text:tale")
    async with start(dying, living) as router:
        found = await events(router.chat())
    assert kinds(found) == ["accepted", "tokens", "moved", "tokens", "finished"]
    assert text_of(found) == "once upon a time"
    assert (list(living.starts[0].resume_token_ids), living.starts[0].resume_text) == ([0, 0], "once")


async def test_workers_of_ids_get_no_text_and_none_goes_on_from_text(start: Start) -> None:
    dying, living = FakeWorker("w1", die_once_after=2), FakeWorker("w2")
    async with start(dying, living) as router:
        await events(router.chat())
    assert (list(living.starts[0].resume_token_ids), living.starts[0].resume_text) == ([100, 101], "")

    text = FakeWorker("w1", die_after=2, text_only=True, fingerprint="text:tale")
    ids = FakeWorker("w2", hold_after=0)
    async with start(text, ids, failover={"recover_wait_s": 0.0}) as router:
        found = await events(router.chat())
    assert kinds(found)[-1] == "failed"
    assert not ids.starts


async def test_a_broken_engine_gets_nothing_until_it_works_and_its_answers_move_on(start: Start) -> None:
    breaking, other = FakeWorker("w1", hold_after=2), FakeWorker("w2")
    async with start(breaking, other, failover={"breaker_failures": 1, "breaker_open_s": 60.0}) as router:
        call = asyncio.ensure_future(events(router.chat()))
        await breaking.started.get()
        breaking.broken, breaking.refuse = "the GPU fell off the bus", BROKEN
        rows = await router.serving("w1", state=router_pb2.Worker.STATE_SUSPECT)
        assert "the GPU fell off the bus" in next(row.state_reason for row in rows if row.worker_id == "w1")
        for _ in range(3):
            assert (await events(router.chat()))[0].accepted.worker_id == "w2"
        breaking.broken, breaking.refuse = "", None
        await router.serving("w1", "w2")
        breaking.go.set()
        assert text_of(await call) == "once upon a time"


async def test_a_hung_engine_that_is_started_anew_is_well_at_once(start: Start) -> None:
    hung = FakeWorker("w1", hold_after=2, steps=False)
    limits = {"stall_s": 0.3, "silent_s": 10.0, "check_every_s": 0.05, "probe_s": 600.0, "recover_wait_s": 30.0}
    async with start(hung, failover=limits) as router:
        call = asyncio.ensure_future(events(router.chat()))
        rows = await router.serving("w1", state=router_pb2.Worker.STATE_SUSPECT)
        assert "stands still" in rows[0].state_reason
        hung.broken = "it did not step"
        async with asyncio.timeout(5):
            while "did not step" not in rows[0].state_reason:
                rows = list((await router.stub.ListWorkers(router_pb2.ListWorkersRequest())).workers)
        hung.broken, hung.hold_after = "", None
        async with asyncio.timeout(5):
            assert text_of(await call) == "once upon a time"


async def test_a_start_that_meets_a_broken_engine_goes_elsewhere_and_opens_no_breaker(start: Start) -> None:
    broken = FakeWorker("w1", refuse=BROKEN)
    async with start(broken, FakeWorker("w2"), failover={"breaker_failures": 1, "breaker_open_s": 60.0}) as router:
        found = await events(router.chat())
        assert (kinds(found), found[0].accepted.worker_id) == (["accepted", "tokens", "finished"], "w2")
        await router.serving("w1", "w2")


async def test_the_only_worker_may_take_its_answer_again_once_its_engine_works(start: Start) -> None:
    only = FakeWorker("w1", broken="starting", refuse=BROKEN)
    async with listening(only), start(FakeWorker("w0", model="other")) as router:
        await router.stub.RegisterWorker(router_pb2.RegisterWorkerRequest(worker_id="w1", address=only.address))
        await router.serving("w1", state=router_pb2.Worker.STATE_SUSPECT)
        call = asyncio.ensure_future(events(router.chat(model="tale")))
        await queued(router, 1)
        assert not only.starts, "it said that it is broken with its hello"
        # The answer is let in, and then the engine breaks under it.
        only.broken = ""
        await only.started.get()
        only.refuse = None
        only.broken = "again"
        await router.serving("w1", state=router_pb2.Worker.STATE_SUSPECT)
        only.broken = ""
        async with asyncio.timeout(5):
            assert text_of(await call) == "once upon a time"


@pytest.mark.parametrize(
    ("fields", "structure"),
    [
        pytest.param({"response_format": {"type": "text"}}, None, id="text"),
        pytest.param(
            {"response_format": {"type": "json_object"}}, chat_pb2.Structure(json_object=True), id="json-object"
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
            chat_pb2.Structure(json_schema='{"type": "object"}'),
            id="json-schema",
        ),
        pytest.param({"guided_json": {"a": 1}}, chat_pb2.Structure(json_schema='{"a": 1}'), id="guided-json"),
        pytest.param({"guided_json": "{}"}, chat_pb2.Structure(json_schema="{}"), id="guided-json-text"),
        pytest.param({"guided_regex": "a+"}, chat_pb2.Structure(regex="a+"), id="guided-regex"),
        pytest.param(
            {"guided_choice": ["a", "b"]},
            chat_pb2.Structure(choices=chat_pb2.Choices(values=["a", "b"])),
            id="guided-choice",
        ),
        pytest.param({"guided_grammar": "root ::= a"}, chat_pb2.Structure(grammar="root ::= a"), id="guided-grammar"),
        pytest.param(
            {"structured_outputs": {"json": {"a": 1}}}, chat_pb2.Structure(json_schema='{"a": 1}'), id="outputs-json"
        ),
        pytest.param(
            {"structured_outputs": {"choice": ["a"]}},
            chat_pb2.Structure(choices=chat_pb2.Choices(values=["a"])),
            id="outputs-choice",
        ),
        pytest.param(
            {"structured_outputs": {"json_object": True}}, chat_pb2.Structure(json_object=True), id="outputs-object"
        ),
    ],
)
async def test_openai_clients_say_what_form_they_want(
    start: Start, fields: dict[str, object], structure: chat_pb2.Structure | None
) -> None:
    worker = FakeWorker(structured_output=True)
    async with start(worker) as router:
        chat = {"messages": [{"role": "user", "content": "hi"}], **fields}
        await router.openai.CreateChatCompletion(HttpBody(data=json.dumps(chat).encode())).read()
        text = {"prompt": "hi", **fields}
        await router.openai.CreateCompletion(HttpBody(data=json.dumps(text).encode())).read()
    for asked in worker.starts:
        assert asked.sampling.HasField("structure") == (structure is not None)
        assert structure is None or asked.sampling.structure == structure


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"response_format": {"type": "yaml"}}, "response_format.type", id="unknown-type"),
        pytest.param({"response_format": {"type": "json_schema"}}, "response_format.json_schema", id="no-schema"),
        pytest.param({"guided_json": "["}, "guided_json", id="no-json"),
        pytest.param({"guided_choice": []}, "guided_choice", id="no-choice"),
        pytest.param({"guided_choice": ["a", ""]}, "guided_choice[1]", id="empty-choice"),
        pytest.param({"guided_regex": ""}, "guided_regex", id="empty-regex"),
        pytest.param({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", id="several"),
        pytest.param({"top_k": -2}, "top_k", id="top-k"),
        pytest.param({"top_k": 1 << 40}, "top_k", id="top-k-too-large"),
    ],
)
async def test_wrong_forms_are_named_as_the_client_wrote_them(
    start: Start, fields: dict[str, object], field: str
) -> None:
    async with start(FakeWorker(structured_output=True)) as router:
        body = {"messages": [{"role": "user", "content": "hi"}], **fields}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.openai.CreateChatCompletion(HttpBody(data=json.dumps(body).encode())).read()
    error = from_rpc(caught.value)
    assert (caught.value.code(), error.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert "sampling" not in error.message
