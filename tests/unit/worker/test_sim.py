"""The sim engine: tokens that depend on prompt and place alone, one batch a step, bounded places."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from services.kit.errors import Exhausted, Internal, InvalidArgument
from services.kit.settings.engines.sim import SimSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.sim.engine import SimEngine, open_sim
from services.worker.engines.sim.faults import FaultPlan
from services.worker.engines.sim.words import WORDS
from services.worker.ports import Conversation, Message, Prompt, Reason, Rendered, Role, Sampling, Tokenised, Work
from tests.unit.worker.collector import Collector
from tests.unit.worker.resume import check_every_split, run

FAST = SimSettings(ttft_ms=2.0, itl_ms=0.5, max_tokens=40)
ASK = Conversation((Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Why is the sky blue?")))

Opener = Callable[..., AbstractAsyncContextManager[tuple[SimEngine, Collector]]]


@pytest.fixture
def sim() -> Opener:
    @asynccontextmanager
    async def opener(sim: SimSettings = FAST, **settings: int) -> AsyncIterator[tuple[SimEngine, Collector]]:
        sink = Collector()
        async with open_sim(WorkerSettings(engine="sim", sim=sim, **settings), sink) as engine:  # type: ignore[arg-type]
            yield engine, sink

    return opener


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        pytest.param(ASK, Sampling(), id="conversation"),
        pytest.param(Rendered("tell me"), Sampling(max_tokens=25), id="text"),
        pytest.param(Tokenised((1, 2, 3)), Sampling(temperature=1.0, seed=7), id="token-ids-seeded"),
        pytest.param(Rendered("stops"), Sampling(stop=("zzz", "o", " th")), id="stop-strings"),
    ],
)
async def test_resume_at_every_split(sim: Opener, prompt: Prompt, sampling: Sampling) -> None:
    async with sim() as (engine, sink):
        await check_every_split(engine, sink, prompt, sampling)


async def test_stop_string_over_tokens_ends_the_answer_before_it(sim: Opener) -> None:
    async with sim() as (engine, sink):
        plain = await run(engine, sink, ASK, Sampling())
        words = plain.text.split(" ")
        across = f"{words[5][-1]} {words[6][:1]}"
        got = await run(engine, sink, ASK, Sampling(stop=(across,)))
        assert got.text == plain.text[: plain.text.index(across)]
        assert got.finish.reason is Reason.STOP
        await check_every_split(engine, sink, ASK, Sampling(stop=(across,)))


async def test_answers_differ_by_prompt_and_end_at_the_limits(sim: Opener) -> None:
    async with sim(context_tokens=20) as (engine, sink):
        one = await run(engine, sink, Rendered("one"), Sampling(max_tokens=5))
        two = await run(engine, sink, Rendered("two"), Sampling(max_tokens=5))
        full = await run(engine, sink, Rendered("a b c d e"), Sampling())
    assert one.ids != two.ids
    assert (one.finish.reason, one.finish.completion_tokens) == (Reason.LENGTH, 5)
    assert (full.finish.reason, full.finish.prompt_tokens, full.finish.completion_tokens) == (Reason.LENGTH, 5, 15)


async def test_every_token_has_the_text_that_is_asked_for(sim: Opener) -> None:
    async with sim() as (words, _), sim(SimSettings(itl_ms=0.5, token_text=" tkn")) as (engine, sink):
        got = await run(engine, sink, ASK, Sampling(max_tokens=3))
        assert got.text == " tkn tkn tkn"
        assert engine.about.tokenizer_fingerprint != words.about.tokenizer_fingerprint


async def test_one_step_carries_every_request(sim: Opener) -> None:
    async with sim(SimSettings(ttft_ms=20.0, itl_ms=10.0, max_tokens=10)) as (engine, sink):
        for key in range(1, 21):
            engine.submit(Work(key, Rendered(str(key)), Sampling()))
        await sink.ended(*range(1, 21))
    with_tokens = [step for step in sink.steps if step.tokens]
    # All were admitted within one step's time, so they decode together, but for those that just missed a step.
    assert len(with_tokens) <= 10 + 2
    assert max(len(step.tokens) for step in with_tokens) == 20


async def test_waiting_requests_run_when_a_place_is_free(sim: Opener) -> None:
    async with sim(max_running=2) as (engine, sink):
        for key in range(1, 6):
            engine.submit(Work(key, Rendered(str(key)), Sampling(max_tokens=3)))
        assert (engine.load().running, engine.load().waiting) == (2, 3)
        await sink.ended(*range(1, 6))
        assert max(step.load.running for step in sink.steps) == 2
        assert (engine.load().running, engine.load().waiting) == (0, 0)


async def test_cancel_frees_the_place_at_once(sim: Opener) -> None:
    async with sim(max_running=1) as (engine, sink):
        engine.submit(Work(1, ASK, Sampling(max_tokens=10_000)))
        engine.submit(Work(2, ASK, Sampling(max_tokens=10_000)))
        await sink.tokens(1, 3)
        engine.cancel(1)
        assert sink.of[1].finish.reason is Reason.CANCELLED
        assert engine.load().running == 1
        engine.cancel(2)
        engine.cancel(2)
        assert (engine.load().running, engine.load().waiting) == (0, 0)
        steps = engine.load().step_count
        assert (await run(engine, sink, ASK, Sampling(max_tokens=1))).finish.reason is Reason.LENGTH
        assert engine.load().step_count > steps


async def test_the_schedule_does_not_drift_and_an_idle_engine_answers_after_ttft(sim: Opener) -> None:
    loop = asyncio.get_running_loop()
    async with sim(SimSettings(ttft_ms=30.0, itl_ms=4.0, max_tokens=50)) as (engine, sink):
        begun_s = loop.time()
        engine.submit(Work(1, ASK, Sampling()))
        await sink.tokens(1)
        assert loop.time() - begun_s >= 0.030
        await sink.ended(1)
        # 30 ms and 49 steps of 4 ms: sleeping each step anew would add the loop's lateness each time.
        assert 0.226 <= loop.time() - begun_s < 0.226 + 0.1
        assert engine.load().step_count == 50 + 7


async def test_steps_count_during_a_long_prefill(sim: Opener) -> None:
    async with sim(SimSettings(ttft_ms=50.0, itl_ms=1.0)) as (engine, sink):
        engine.submit(Work(1, ASK, Sampling(max_tokens=1)))
        assert engine.load().queued_tokens > 0
        await sink.ended(1)
        assert engine.load().step_count >= 40


@pytest.mark.parametrize(
    ("prompt", "resume", "reason", "field"),
    [
        pytest.param(Rendered("a " * 30), (), "PROMPT_TOO_LONG", "prompt", id="too-long"),
        pytest.param(Tokenised((5, 262_144)), (), "UNKNOWN_TOKEN", "prompt.token_ids", id="no-token"),
        pytest.param(Rendered("a"), (999_999,), "RESUME_MISMATCH", "resume_token_ids", id="foreign-tokens"),
    ],
)
async def test_refusals(sim: Opener, prompt: Prompt, resume: tuple[int, ...], reason: str, field: str) -> None:
    async with sim(context_tokens=30) as (engine, _):
        with pytest.raises(InvalidArgument) as caught:
            engine.submit(Work(1, prompt, Sampling(), resume))
        assert (caught.value.reason, caught.value.field) == (reason, field)
        assert engine.load().running == 0


TEN_BLOCKS = "word " * 1024
"""Of the prefix cache; 1,024 tokens."""


async def test_prefill_takes_its_time_one_prompt_after_the_other(sim: Opener) -> None:
    loop = asyncio.get_running_loop()
    slow = SimSettings(ttft_ms=10.0, itl_ms=1.0, prefill_tokens_per_s=2_500.0, max_tokens=1)
    async with sim(slow) as (engine, sink):
        begun_s = loop.time()
        engine.submit(Work(1, Rendered("a " * 500), Sampling()))
        engine.submit(Work(2, Rendered("b " * 500), Sampling()))
        assert engine.load().queued_tokens == 1000
        await sink.ended(1)
        first_s = loop.time() - begun_s
        assert engine.load().queued_tokens == 500
        await sink.ended(2)
        second_s = loop.time() - begun_s
        assert engine.load().queued_tokens == 0
        # It stepped all along: a busy engine is never taken for a hung one.
        assert engine.load().step_count >= 100
    # 200 ms each, and 10 to the first token.
    assert first_s >= 0.210
    assert second_s >= 0.410


async def test_what_is_cached_is_not_prefilled_again(sim: Opener) -> None:
    loop = asyncio.get_running_loop()
    slow = SimSettings(ttft_ms=0.0, itl_ms=1.0, prefill_tokens_per_s=2_500.0, max_tokens=1)
    async with sim(slow) as (engine, sink):
        first = await run(engine, sink, Rendered(TEN_BLOCKS), Sampling())
        begun_s = loop.time()
        again = await run(engine, sink, Rendered(TEN_BLOCKS + "and more"), Sampling())
        took_s = loop.time() - begun_s
        other = await run(engine, sink, Rendered("x" + TEN_BLOCKS), Sampling())
        assert len(engine.cached()) == 20
        assert engine.about.kv_events
    assert (first.cached, first.finish.cached_tokens) == (0, 0)
    assert again.cached == again.finish.cached_tokens
    assert 1010 <= again.cached <= 1024
    assert took_s < 0.3, "1,024 tokens would take 410 ms"
    assert other.finish.cached_tokens == 0


async def test_a_request_finds_what_those_before_it_store(sim: Opener) -> None:
    slow = SimSettings(ttft_ms=0.0, itl_ms=1.0, prefill_tokens_per_s=50_000.0, max_tokens=1)
    async with sim(slow) as (engine, sink):
        for key in (1, 2):
            engine.submit(Work(key, Rendered(TEN_BLOCKS), Sampling()))
        assert engine.load().kv_usage == 22 / 4096, "room for ten blocks of prompt and one of answer each"
        one, two = await sink.ended(1, 2)
        told = [change for step in sink.steps if (change := step.cache)]
    assert (one.finish.cached_tokens, two.cached) == (0, 0)
    assert two.finish.cached_tokens > 1000
    assert [len(change.stored) for change in told] == [10], "the same blocks are stored once"


async def test_usage_is_the_share_that_requests_under_way_hold(sim: Opener) -> None:
    async with sim(SimSettings(ttft_ms=0.0, itl_ms=1.0, kv_blocks=40)) as (engine, sink):
        engine.submit(Work(1, Rendered(TEN_BLOCKS), Sampling(max_tokens=10_000)))
        await sink.tokens(1)
        assert engine.load().kv_usage == 11 / 40, "ten blocks of prompt and one of answer"
        await sink.tokens(1, 129)
        assert engine.load().kv_usage == 12 / 40
        engine.cancel(1)
        assert engine.load().kv_usage == 0.0
        assert len(engine.cached()) == 10


async def test_a_cancelled_prefill_makes_room_for_the_next(sim: Opener) -> None:
    slow = SimSettings(ttft_ms=0.0, itl_ms=1.0, prefill_tokens_per_s=100.0, max_tokens=1)
    async with sim(slow) as (engine, sink):
        engine.submit(Work(1, Rendered(TEN_BLOCKS), Sampling()))
        engine.submit(Work(2, Rendered("quick"), Sampling()))
        engine.cancel(1)
        assert (engine.load().queued_tokens, engine.cached()) == (1, ())
        # The first would have taken ten seconds.
        async with asyncio.timeout(5):
            await sink.ended(2)


async def test_a_bigger_batch_takes_longer_steps(sim: Opener) -> None:
    loop = asyncio.get_running_loop()
    async with sim(SimSettings(ttft_ms=0.0, itl_ms=1.0, itl_us_per_running=500.0, max_tokens=11)) as (engine, sink):
        for key in range(1, 11):
            engine.submit(Work(key, Rendered(str(key)), Sampling()))
        await sink.tokens(10)
        begun_s = loop.time()
        await sink.ended(*range(1, 11))
        # Ten steps of 1 ms and ten times 0.5 ms.
        assert loop.time() - begun_s >= 0.055


async def test_resume_at_every_split_with_prefill_and_cache(sim: Opener) -> None:
    quick = SimSettings(ttft_ms=1.0, itl_ms=0.5, prefill_tokens_per_s=1e6, max_tokens=12, kv_blocks=12)
    async with sim(quick) as (engine, sink):
        await check_every_split(engine, sink, Rendered(TEN_BLOCKS), Sampling(stop=("zzz",)))


async def test_a_share_fails_anywhere_and_the_same_ones_again(sim: Opener) -> None:
    faulty = SimSettings(ttft_ms=1.0, itl_ms=0.2, max_tokens=8, fail_share=0.5)
    runs = []
    for _ in range(2):
        async with sim(faulty) as (engine, sink):
            for key in range(1, 101):
                engine.submit(Work(key, Rendered(str(key)), Sampling()))
            got = await sink.ended(*range(1, 101))
            assert engine.load().running == 0
            runs.append([len(one.ids) for one in got if isinstance(one.outcome, Internal)])
    assert runs[0] == runs[1]
    assert 35 <= len(runs[0]) <= 65
    assert {0, 7} <= set(runs[0]) <= set(range(8)), "before the first token, and before the last"


async def test_a_hung_engine_steps_no_more_and_hears_nothing(sim: Opener) -> None:
    async with sim(SimSettings(ttft_ms=1.0, itl_ms=0.5, hang_after_tokens=5)) as (engine, sink):
        engine.submit(Work(1, ASK, Sampling(max_tokens=100)))
        await sink.tokens(1, 5)
        steps = engine.load().step_count
        engine.submit(Work(2, ASK, Sampling()))
        engine.cancel(1)
        engine.cancel(1)
        # Forty steps' time in which nothing may happen.
        await asyncio.sleep(0.02)
        assert (engine.load().step_count, engine.load().running) == (steps, 2)
        assert sink.of[1].outcome is None
        assert len(sink.of[1].ids) == 5


async def test_a_hang_may_pass(sim: Opener) -> None:
    loop = asyncio.get_running_loop()
    async with sim(SimSettings(ttft_ms=1.0, itl_ms=0.5, hang_after_tokens=5, hang_s=0.1)) as (engine, sink):
        engine.submit(Work(1, ASK, Sampling(max_tokens=20)))
        engine.submit(Work(2, ASK, Sampling(max_tokens=20)))
        await sink.tokens(1, 2)
        begun_s = loop.time()
        # It hears of this one once it is back.
        await sink.tokens(2, 3)
        engine.cancel(2)
        (got,) = await sink.ended(1)
        assert loop.time() - begun_s >= 0.05
        assert len(got.ids) == 20
        assert (await sink.ended(2))[0].finish.reason is Reason.CANCELLED
        assert engine.load().running == 0


async def test_requests_wait_for_blocks_and_not_for_places_alone(sim: Opener) -> None:
    async with sim(SimSettings(ttft_ms=0.0, itl_ms=0.5, kv_blocks=25)) as (engine, sink):
        for key in (1, 2, 3):
            engine.submit(Work(key, Rendered(f"{key}" + TEN_BLOCKS), Sampling(max_tokens=50)))
        assert (engine.load().running, engine.load().waiting) == (2, 1)
        assert engine.load().kv_usage == 22 / 25
        engine.submit(Work(4, Rendered("short"), Sampling(max_tokens=1)))
        assert engine.load().waiting == 2, "first come, first served"
        await sink.ended(1, 2, 3, 4)
        assert (engine.load().waiting, engine.load().kv_usage) == (0, 0.0)
        assert max(step.load.kv_usage for step in sink.steps) <= 1.0
        assert len(engine.cached()) <= 25
        assert engine.preemptions == 0


async def test_the_last_to_come_gives_way_and_goes_on_word_for_word(sim: Opener) -> None:
    quick = SimSettings(ttft_ms=0.0, itl_ms=0.1, kv_blocks=16, prefill_tokens_per_s=1e6)
    async with sim(quick) as (engine, sink):
        alone = [await run(engine, sink, Rendered(f"ask {key}"), Sampling(max_tokens=600)) for key in range(4)]
        assert engine.preemptions == 0
        sink.of.clear()
        for key in range(4):
            engine.submit(Work(1000 + key, Rendered(f"ask {key}"), Sampling(max_tokens=600)))
        together = await sink.ended(1000, 1001, 1002, 1003)
        # Four answers of five blocks each do not fit in sixteen.
        assert engine.preemptions > 0
        assert [one.ids for one in together] == [one.ids for one in alone]
        assert [one.finish for one in together] == [one.finish for one in alone]
        assert max(step.load.kv_usage for step in sink.steps) == 1.0
        assert any(step.load.waiting for step in sink.steps)
        assert (engine.load().kv_usage, engine.load().queued_tokens) == (0.0, 0)


async def test_an_answer_ends_where_it_alone_fills_the_cache(sim: Opener) -> None:
    async with sim(SimSettings(ttft_ms=0.0, itl_ms=0.05, kv_blocks=3)) as (engine, sink):
        got = await run(engine, sink, Rendered("a b"), Sampling(max_tokens=10_000))
        assert (got.finish.reason, got.finish.completion_tokens) == (Reason.LENGTH, 3 * 128 - 2)
        with pytest.raises(InvalidArgument) as caught:
            engine.submit(Work(99, Rendered(TEN_BLOCKS), Sampling()))
        assert caught.value.reason == "PROMPT_TOO_LONG"


async def test_cancels_among_those_that_wait_and_run_leave_nothing_behind(sim: Opener) -> None:
    async with sim(SimSettings(ttft_ms=0.0, itl_ms=0.1, kv_blocks=16), max_running=8) as (engine, sink):
        for key in range(1, 21):
            engine.submit(Work(key, Rendered(f"ask {key}"), Sampling(max_tokens=900)))
        await sink.tokens(1, 300)
        for key in range(20, 0, -1):
            engine.cancel(key)
        load = engine.load()
        assert (load.running, load.waiting, load.queued_tokens, load.kv_usage) == (0, 0, 0, 0.0)


async def test_a_share_is_refused_and_a_share_is_garbage(sim: Opener) -> None:
    faulty = SimSettings(ttft_ms=0.0, itl_ms=0.1, max_tokens=5, refuse_share=0.3, garbage_share=0.5)
    async with sim() as (plain, expected), sim(faulty) as (engine, sink):
        refused, garbled = 0, 0
        for key in range(1, 101):
            try:
                engine.submit(Work(key, Rendered(str(key)), Sampling()))
            except Exhausted:
                refused += 1
                continue
            (got,) = await sink.ended(key)
            whole = await run(plain, expected, Rendered(str(key)), Sampling(max_tokens=5))
            garbled += got.text != whole.text
            if got.text != whole.text:
                assert not set(got.ids) & set(range(len(WORDS)))
                assert not set(got.text.split()) & set(WORDS)
        assert (refused, garbled) == (engine.faults.refused, engine.faults.garbled)
        assert 15 <= refused <= 45
        assert 20 <= garbled <= 50


async def test_faults_set_while_it_works(sim: Opener) -> None:
    loop = asyncio.get_running_loop()
    async with sim(SimSettings(ttft_ms=1.0, itl_ms=0.5)) as (engine, sink):
        engine.submit(Work(1, ASK, Sampling(max_tokens=100_000)))
        await sink.tokens(1, 5)
        engine.set_faults(FaultPlan(hang_after_tokens=0))
        engine.submit(Work(2, ASK, Sampling(max_tokens=3)))
        steps = engine.load().step_count
        await asyncio.sleep(0.02)
        assert engine.load().step_count == steps
        engine.set_faults(FaultPlan(slow_factor=20.0))
        await sink.ended(2)
        begun_s = loop.time()
        await sink.tokens(1, len(sink.of[1].ids) + 5)
        assert loop.time() - begun_s >= 0.04, "steps of 10 ms"
        engine.set_faults(FaultPlan(fail_share=1.0))
        engine.submit(Work(3, ASK, Sampling(max_tokens=3)))
        assert isinstance((await sink.ended(3))[0].error, Internal)
        assert (engine.faults.failed, engine.faults.hangs) == (1, 1)


@pytest.mark.parametrize("tokens", [0, 7])
async def test_it_dies_after_so_many_tokens(tokens: int) -> None:
    dead = asyncio.Event()
    sink = Collector()
    engine = SimEngine(WorkerSettings(engine="sim", sim=FAST), sink, dead.set)
    try:
        engine.submit(Work(1, ASK, Sampling(max_tokens=1000)))
        await sink.tokens(1, 3)
        before = len(sink.of[1].ids)
        engine.set_faults(FaultPlan(die_after_tokens=tokens))
        assert dead.is_set() == (tokens == 0)
        async with asyncio.timeout(5):
            await dead.wait()
        assert len(sink.of[1].ids) <= before + tokens
    finally:
        engine.close()
