"""Texts of many callers through one batcher: bounds, order, failures, cancels, the end."""

import asyncio

import pytest

from services.embedder.ports import Embedded
from services.kit.clock import monotonic_s
from services.kit.errors import DeadlineExceeded, Exhausted, Internal, Unavailable
from tests.fakes.embedding_model import vector_of
from tests.unit.embedder.conftest import Bench


def words(count: int, start: str = "text") -> list[str]:
    """So many texts of one token each, no two alike."""
    return [f"{start}{index}" for index in range(count)]


def caller(bench: Bench, *texts: str, query: bool = False) -> asyncio.Task[list[Embedded]]:
    return asyncio.create_task(bench.batcher.embed(list(texts), query=query))


async def test_answers_in_the_order_of_the_texts(bench: Bench) -> None:
    texts = ["a b c", "d", "e " * 60, "f g", "h " * 300]
    found = await bench.batcher.embed(texts, query=False)
    assert [one.vector.tolist() for one in found] == [vector_of(" ".join(text.split()[:256])) for text in texts]
    assert [one.tokens for one in found] == [3, 1, 60, 2, 256]
    assert [one.truncated for one in found] == [False, False, False, False, True]


async def test_many_long_texts_keep_their_order(bench: Bench) -> None:
    texts = [f"{index} {'x' * 100_000}" for index in range(10)]
    found = await bench.batcher.embed(texts, query=False)
    assert [one.vector.tolist() for one in found] == [vector_of(text) for text in texts]


async def test_texts_of_all_callers_share_a_batch(bench: Bench) -> None:
    bench.model.gate.clear()
    first = caller(bench, "first")
    await bench.busy()
    others = [caller(bench, f"text {index}") for index in range(6)]
    await bench.waiting.reaches(6)
    bench.model.gate.set()
    await asyncio.gather(first, *others)
    assert bench.model.batches == [[1], [2] * 6]


async def test_queries_go_before_passages(bench: Bench) -> None:
    bench.model.gate.clear()
    first = caller(bench, "first")
    await bench.busy()
    passage = caller(bench, "three words long")
    await bench.waiting.reaches(1)
    query = caller(bench, "two words", query=True)
    await bench.waiting.reaches(2)
    bench.model.gate.set()
    await asyncio.gather(first, passage, query)
    assert bench.model.batches == [[1], [2], [3]]


async def test_a_full_queue_refuses_and_says_when_to_come_back(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    held = caller(bench, *words(10))
    await bench.waiting.reaches(10)
    assert bench.reading("weft_embedder_queue_texts") == 10
    with pytest.raises(Exhausted, match="room for 0 more") as caught:
        await bench.batcher.embed(["one more"], query=False)
    assert caught.value.retry_delay_s is not None
    assert 0.1 <= caught.value.retry_delay_s <= 30
    # Passages do not take the queries' room.
    query = caller(bench, "a query", query=True)
    await bench.waiting.reaches(11)
    bench.model.gate.set()
    await asyncio.gather(running, held, query)
    assert await bench.batcher.embed(["one more"], query=False)


async def test_a_cancelled_caller_leaves_nothing_behind(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    leaver = caller(bench, *words(9))
    await bench.waiting.reaches(9)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert bench.waiting.depth == 0
    bench.model.gate.set()
    await running
    assert await bench.batcher.embed(words(10), query=False)
    assert bench.model.batches == [[1], [1] * 10]


async def test_cancelling_while_its_batch_runs_hurts_nobody_else(bench: Bench) -> None:
    bench.model.gate.clear()
    leaver = caller(bench, "first")
    await bench.busy()
    stays = caller(bench, "second")
    await bench.waiting.reaches(1)
    leaver.cancel()
    bench.model.gate.set()
    assert (await stays)[0].vector.tolist() == vector_of("second")


async def test_a_failing_batch_fails_its_callers_only(bench: Bench) -> None:
    results = await asyncio.gather(
        bench.batcher.embed(["poison", "poison 1", "poison 2"], query=False),
        bench.batcher.embed(["much longer text " * 10], query=False),
        return_exceptions=True,
    )
    assert isinstance(results[0], Internal)
    assert "MODEL_FAILED" in repr(results[0])
    assert isinstance(results[1], list)
    assert await bench.batcher.embed(["fine"], query=False)
    assert bench.reading("weft_embedder_batches_total", outcome="error") == 1
    assert bench.reading("weft_embedder_texts_total", outcome="ok") == 2


async def test_padding_and_tokens_are_counted(bench: Bench) -> None:
    bench.model.gate.clear()
    first = caller(bench, "first")
    await bench.busy()
    rest = caller(bench, "a", "a b c")
    await bench.waiting.reaches(2)
    bench.model.gate.set()
    await asyncio.gather(first, rest)
    assert bench.reading("weft_embedder_tokens_total") == 5
    assert bench.reading("weft_embedder_padding_tokens_total") == 2
    assert bench.reading("weft_embedder_batch_seconds_count") == 2


async def test_closing_answers_everyone(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    held = caller(bench, "second")
    await bench.waiting.reaches(1)
    closing = asyncio.create_task(bench.batcher.__aexit__())
    for task in (running, held):
        with pytest.raises(Unavailable, match="stopping"):
            await task
    bench.model.gate.set()
    await closing
    assert bench.waiting.depth == 0
    with pytest.raises(Unavailable):
        await bench.batcher.embed(["late"], query=False)


async def test_a_stream_waits_for_room_and_leaves_some_to_single_calls(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    jobs = [await bench.batcher.submit(f"s{n}", query=False, caller=None, deadline_s=None) for n in range(5)]
    sixth = asyncio.create_task(bench.batcher.submit("sixth", query=False, caller=None, deadline_s=None))
    single = caller(bench, *words(5))
    await bench.waiting.reaches(10)
    assert not sixth.done()
    bench.model.gate.set()
    await asyncio.gather(running, single, *(job.result for job in [*jobs, await sixth]))


async def test_a_withdrawn_job_is_not_embedded(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    job = await bench.batcher.submit("text of four words", query=False, caller=None, deadline_s=None)
    bench.batcher.withdraw(job)
    assert bench.waiting.depth == 0
    assert job.result.cancelled()
    bench.model.gate.set()
    await running
    assert bench.model.batches == [[1]]


async def test_a_caller_with_many_texts_does_not_starve_another(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    # Each fills a batch of its own.
    many = caller(bench, *[f"{'word ' * 98}{n}" for n in range(8)])
    await bench.waiting.reaches(8)
    single = caller(bench, f"{'word ' * 98}other")
    await bench.waiting.reaches(9)
    bench.model.gate.set()
    await single
    assert not many.done()
    assert len(bench.model.batches) <= 4
    await asyncio.gather(running, many)


async def test_equal_texts_under_way_are_embedded_once_and_one_may_leave(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    leaves, stays = caller(bench, "the same text"), caller(bench, "the same text", "the same text")
    await bench.waiting.reaches(1)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    bench.model.gate.set()
    found = await stays
    await running
    assert [one.vector.tolist() for one in found] == [vector_of("the same text")] * 2
    assert bench.model.batches == [[1], [3]]


async def test_a_text_whose_deadline_passed_is_not_embedded(bench: Bench) -> None:
    bench.model.gate.clear()
    running = caller(bench, "first")
    await bench.busy()
    deadline_s = monotonic_s() + 0.2
    late = asyncio.create_task(bench.batcher.embed(["late"], query=False, deadline_s=deadline_s))
    await bench.waiting.reaches(1)
    await asyncio.sleep(deadline_s - monotonic_s())
    bench.model.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await running
    assert bench.model.batches == [[1]]
    assert bench.reading("weft_embedder_texts_total", outcome="late") == 1
