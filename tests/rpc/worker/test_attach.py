"""The link over real sockets: order, batching, refusals, cancels, lost links, load and slow readers."""

import asyncio

import grpc
import grpc.aio
import pytest

from services.kit.settings.engines.sim import SimSettings
from services.worker.prefix import prefix_hashes
from tests.rpc.worker.harness import ENDLESS, LinkClient, attached, running_worker
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1 import worker_pb2_grpc


async def test_hello_then_a_whole_answer() -> None:
    async with (
        running_worker(worker_id="w-7", max_running=3, max_waiting=5) as worker,
        attached(worker.address) as link,
    ):
        hello = link.messages[0].hello
        assert (hello.worker_id, hello.model, hello.engine) == ("w-7", "sim", "sim")
        assert (hello.limits.max_running, hello.limits.max_waiting) == (3, 5)
        assert hello.limits.context_tokens == ENDLESS
        assert hello.capabilities.exact_resume
        assert hello.capabilities.position_keyed_sampling
        assert hello.capabilities.replays_penalties
        assert hello.capabilities.kv_events
        assert hello.kv_block_size == 128
        assert not hello.limits.HasField("longest_step")
        assert len(hello.incarnation) >= 8
        assert hello.tokenizer_fingerprint
        await link.start(1, "hello there", max_tokens=6)
        ended = await link.ended(1)
        assert ended.finish.reason == chat_pb2.FINISH_REASON_LENGTH
        assert (ended.finish.usage.prompt_tokens, ended.finish.usage.completion_tokens) == (2, 6)
        assert len(link.answers[1].ids) == 6
        assert len(link.answers[1].text.split()) == 6


async def test_the_incarnation_is_new_at_each_start() -> None:
    seen = set()
    for _ in range(2):
        async with running_worker() as worker, attached(worker.address) as link:
            seen.add(link.messages[0].hello.incarnation)
    assert len(seen) == 2


async def test_one_message_carries_one_step_of_all_requests() -> None:
    async with running_worker(sim=SimSettings(ttft_ms=20.0, itl_ms=5.0)) as worker, attached(worker.address) as link:
        for request in range(1, 31):
            await link.start(request, f"question {request}", max_tokens=20)
        for request in range(1, 31):
            await link.ended(request)
        with_deltas = [message for message in link.messages if message.deltas]
        assert max(len(message.deltas) for message in with_deltas) == 30
        assert sum(len(message.deltas) for message in with_deltas) == 30 * 20
        assert len(with_deltas) < 40


async def test_resume_goes_on_at_the_index() -> None:
    async with running_worker() as worker, attached(worker.address) as link:
        await link.start(1, "hello", max_tokens=10)
        await link.ended(1)
        whole = link.answers[1]
        await link.start(2, "hello", resume=tuple(whole.ids[:4]), max_tokens=10)
        ended = await link.ended(2)
        assert whole.ids[:4] + link.answers[2].ids == whole.ids
        assert whole.text.endswith(link.answers[2].text)
        assert ended.finish.usage.completion_tokens == 10


async def test_every_link_hears_of_the_cache_and_a_later_one_of_all_of_it() -> None:
    def told(link: LinkClient) -> set[int]:
        held: set[int] = set()
        for event in (event for message in link.messages for event in message.kv_events):
            if event.HasField("cleared"):
                held.clear()
            held |= set(event.stored.prefix_hashes)
            held -= set(event.removed.prefix_hashes)
        return held

    sim = SimSettings(ttft_ms=2.0, itl_ms=1.0, kv_blocks=7)
    async with (
        running_worker(sim=sim, context_tokens=10_000) as worker,
        attached(worker.address) as one,
        attached(worker.address, "two") as two,
    ):
        first, second = prefix_hashes(b"ab " * 512), prefix_hashes(b"cd " * 1024)
        await one.start(1, "ab " * 512, max_tokens=2)
        await one.ended(1)
        assert told(one) == set(first)
        await two.until(lambda two: told(two) == set(first))
        await one.start(2, "ab " * 512, max_tokens=2)
        assert (await one.ended(2)).finish.usage.cached_tokens == 511
        assert one.answers[2].cached_tokens == 511
        # Six blocks and one for the answer fill the cache: the first prompt's have to go.
        await two.start(1, "cd " * 1024, max_tokens=2)
        await two.ended(1)
        assert (len(first), len(second)) == (3, 6)
        await one.until(lambda one: told(one) == set(second))
        async with attached(worker.address, "three") as three:
            await three.until(lambda three: told(three) == set(second))
            assert len(three.messages) == 2


@pytest.mark.parametrize(
    ("start", "code", "reason", "field"),
    [
        pytest.param(pb.Start(request=9), 3, "EMPTY_PROMPT", "prompt", id="no-prompt"),
        pytest.param(pb.Start(request=9, prompt=pb.Prompt(text="")), 3, "EMPTY_PROMPT", "prompt.text", id="empty-text"),
        pytest.param(
            pb.Start(request=9, prompt=pb.Prompt(text="a " * 200)), 3, "PROMPT_TOO_LONG", "prompt", id="too-long"
        ),
        pytest.param(
            pb.Start(request=9, prompt=pb.Prompt(text="a"), sampling=chat_pb2.Sampling(temperature=3)),
            3, "OUT_OF_RANGE", "sampling.temperature", id="temperature",
        ),
        pytest.param(
            pb.Start(request=9, prompt=pb.Prompt(text="a"), sampling=chat_pb2.Sampling(logprobs=2)),
            3, "UNSUPPORTED", "sampling.logprobs", id="no-logprobs-here",
        ),
        pytest.param(
            pb.Start(request=9, prompt=pb.Prompt(text="a"), resume_token_ids=[70_000]),
            3, "RESUME_MISMATCH", "resume_token_ids", id="foreign-resume",
        ),
        pytest.param(
            pb.Start(request=9, model="other", prompt=pb.Prompt(text="a")), 5, "OTHER_MODEL", "model", id="other-model"
        ),
    ],
)  # fmt: skip
async def test_a_refused_start_ends_at_once_and_leaves_the_link_up(
    start: pb.Start, code: int, reason: str, field: str
) -> None:
    async with running_worker(context_tokens=100) as worker, attached(worker.address) as link:
        await link.send(start=start)
        failure = (await link.ended(9)).failure
        assert (failure.code, failure.reason, failure.field) == (code, reason, field)
        assert failure.message
        assert not link.answers[9].started
        await link.start(10, max_tokens=2)
        assert (await link.ended(10)).HasField("finish")


async def test_a_full_worker_refuses_and_takes_more_once_one_is_over() -> None:
    async with running_worker(max_running=2, max_waiting=1) as worker, attached(worker.address) as link:
        for request in (1, 2, 3):
            await link.start(request, max_tokens=ENDLESS)
        await link.start(4)
        assert (await link.ended(4)).failure.code == 8
        assert (link.load.running, link.load.waiting) == (2, 1)
        await link.send(cancel=pb.Cancel(request=1))
        await link.ended(1)
        await link.tokens(3, 2)
        await link.start(5, max_tokens=ENDLESS)
        await link.until(lambda link: 5 in link.answers)
        assert link.answers[5].ended is None


async def test_cancel_is_answered_and_the_engine_is_idle_within_100_ms() -> None:
    async with running_worker() as worker, attached(worker.address) as link:
        await link.start(1, max_tokens=ENDLESS)
        await link.tokens(1, 5)
        begun_s = asyncio.get_running_loop().time()
        await link.send(cancel=pb.Cancel(request=1))
        ended = await link.ended(1)
        assert ended.finish.reason == chat_pb2.FINISH_REASON_CANCELLED
        assert ended.finish.usage.completion_tokens == len(link.answers[1].ids)
        assert link.load.running == 0
        assert asyncio.get_running_loop().time() - begun_s < 0.1
        await link.send(cancel=pb.Cancel(request=1))
        await link.send(cancel=pb.Cancel(request=77))
        await link.start(2, max_tokens=2)
        await link.ended(2)


async def test_a_lost_link_frees_the_engine_and_only_its_own_requests() -> None:
    async with running_worker() as worker, attached(worker.address, "other") as other:
        await other.start(1, max_tokens=ENDLESS)
        await other.tokens(1, 2)
        async with attached(worker.address) as link:
            for request in range(1, 6):
                await link.start(request, max_tokens=ENDLESS)
            await link.tokens(5, 2)
            await other.until(lambda other: other.load.running == 6)
        await other.until(lambda other: other.load.running == 1)
        before = len(other.answers[1].ids)
        await other.tokens(1, before + 5)


async def test_half_closing_leaves_politely() -> None:
    async with running_worker() as worker, attached(worker.address, "other") as other:
        async with attached(worker.address) as link:
            await link.start(1, max_tokens=ENDLESS)
            await link.tokens(1, 2)
            await link.call.done_writing()
            assert await link.end() is grpc.StatusCode.OK
        await other.until(lambda other: other.load.running == 0)


async def test_two_links_use_the_same_numbers_without_mixing() -> None:
    async with running_worker() as worker, attached(worker.address) as one, attached(worker.address, "two") as two:
        await one.start(1, "first question", max_tokens=15)
        await two.start(1, "second question", max_tokens=15)
        await one.ended(1)
        await two.ended(1)
        assert one.answers[1].ids != two.answers[1].ids
        assert set(one.answers) == set(two.answers) == {1}


async def test_the_deadline_after_the_first_token_and_before_it() -> None:
    async with running_worker(sim=SimSettings(ttft_ms=30.0, itl_ms=5.0)) as worker, attached(worker.address) as link:
        await link.start(1, timeout_s=0.1, max_tokens=ENDLESS)
        await link.start(2, timeout_s=0.01, max_tokens=ENDLESS)
        ended = await link.ended(1)
        assert ended.finish.reason == chat_pb2.FINISH_REASON_DEADLINE
        assert ended.finish.usage.completion_tokens == len(link.answers[1].ids) > 0
        failure = (await link.ended(2)).failure
        assert failure.code == 4
        assert link.load.running == 0


async def test_stop_strings() -> None:
    async with running_worker() as worker, attached(worker.address) as link:
        await link.start(1, max_tokens=10)
        await link.ended(1)
        words = link.answers[1].text.split()
        stop = f"{words[4]} {words[5]}"
        await link.start(2, max_tokens=10, stop=[stop])
        assert (await link.ended(2)).finish.reason == chat_pb2.FINISH_REASON_STOP
        assert link.answers[2].text == link.answers[1].text.split(stop)[0]


async def test_an_idle_link_hears_of_the_load_often_but_not_more() -> None:
    async with running_worker(load_every_s=0.05) as worker, attached(worker.address) as link:
        # What the prefix cache holds comes right after hello.
        await link.until(lambda link: len(link.messages) == 2)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for _ in range(6):
            message = await link.read()
            assert message is not None
            assert message.HasField("load")
        assert 0.05 * 6 - 0.03 <= loop.time() - begun_s < 0.05 * 6 + 0.2


async def test_a_busy_link_gets_its_load_with_the_tokens() -> None:
    async with running_worker(sim=SimSettings(ttft_ms=5.0, itl_ms=5.0)) as worker, attached(worker.address) as link:
        await link.start(1, max_tokens=60)
        await link.ended(1)
        busy = [message for message in link.messages if message.deltas]
        assert all(message.HasField("load") for message in busy)
        assert [message.load.step_count for message in busy] == sorted({message.load.step_count for message in busy})
        alone = [message for message in link.messages[1:] if not message.deltas and not message.started]
        assert len(alone) <= 2
        assert 0.003 < link.load.step_time.ToNanoseconds() / 1e9 < 0.02


async def test_drain_refuses_new_starts_everywhere_and_lets_answers_finish() -> None:
    async with running_worker() as worker, attached(worker.address) as one, attached(worker.address, "two") as two:
        await one.start(1, max_tokens=50)
        await one.tokens(1)
        await two.send(drain=pb.Drain())
        await one.until(lambda one: one.load.draining)
        await one.start(2)
        failure = (await one.ended(2)).failure
        assert (failure.code, failure.reason) == (14, "DRAINING")
        assert (await one.ended(1)).finish.usage.completion_tokens == 50


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([pb.AttachRequest(start=pb.Start(request=1))], id="start-before-open"),
        pytest.param([pb.AttachRequest()], id="nothing"),
        pytest.param([pb.AttachRequest(open=pb.Open())] * 2, id="open-twice"),
        pytest.param(
            [
                pb.AttachRequest(open=pb.Open()),
                *[
                    pb.AttachRequest(
                        start=pb.Start(
                            request=1, prompt=pb.Prompt(text="a"), sampling=chat_pb2.Sampling(max_tokens=ENDLESS)
                        )
                    )
                ]
                * 2,
            ],
            id="number-used-twice",
        ),
    ],
)
async def test_a_link_that_breaks_the_order_ends_with_invalid_argument(messages: list[pb.AttachRequest]) -> None:
    async with running_worker() as worker, grpc.aio.insecure_channel(worker.address) as channel:
        call = worker_pb2_grpc.WorkerServiceStub(channel).Attach()
        for message in messages:
            await call.write(message)
        link = LinkClient(call)  # type: ignore[arg-type]  # the stubs show the blocking call
        assert await link.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_router_that_does_not_read_is_cut_and_blocks_nobody() -> None:
    settings = {"link_queue_limit": 256, "sim": SimSettings(ttft_ms=4.0, itl_ms=4.0)}
    async with (
        running_worker(**settings) as worker,
        attached(worker.address, "other") as other,
        attached(worker.address, "slow") as slow,
    ):
        for request in range(1, 201):
            await slow.start(request, max_tokens=ENDLESS)
        await other.start(1, max_tokens=ENDLESS)
        # The engine is freed without a word from the slow router, and the other link never stopped.
        await other.until(lambda other: other.load.running == 201)
        await other.until(lambda other: other.load.running == 1)
        before = len(other.answers[1].ids)
        await other.tokens(1, before + 20)
        assert await slow.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "does not read" in await slow.call.details()
