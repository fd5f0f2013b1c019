"""The openai engine beside a server that is full, silent, or says what no such server says: nothing else suffers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.kit.errors import Exhausted, WeftError
from services.worker import convert
from services.worker.engines import http
from services.worker.engines.openai.refusal import UpstreamError
from services.worker.engines.openai.request import UNSHOWN_LIMIT
from services.worker.ports import Logprob, Rendered, Sampling, Work
from tests.fakes.openai_server import Answer, FakeUpstream, fake_upstream, json_answer, stream_answer, text_event
from tests.unit.worker.resume import run
from tests.unit.worker.test_openai_upstream import COMPLETIONS, opened

TEXT = Rendered("Once")
CHUNKED = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with fake_upstream() as found:
        yield found


async def test_a_full_upstream_is_left_alone_for_as_long_as_it_says(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = json_answer({"error": "slow down"}, 429, retry_after="30")
    async with opened(upstream) as (engine, sink):
        assert (await run(engine, sink, TEXT, Sampling())).error.retry_delay_s == 30.0
        with pytest.raises(Exhausted, match="left alone for") as caught:
            engine.submit(Work(1002, TEXT, Sampling()))
        assert caught.value.retry_delay_s == pytest.approx(30.0, abs=5.0)
        steps = engine.load().step_count
        await sink.until(lambda: sink.steps[-1].load.step_count > steps)
        load = engine.load()
    assert len(upstream.bodies(COMPLETIONS)) == 1
    assert (load.running, load.waiting) == (engine.about.max_running, 64), "no router sends it anything"


async def test_once_the_time_is_over_it_is_asked_again(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = json_answer({"error": "slow down"}, 429, retry_after="0.05")
    async with opened(upstream) as (engine, sink):
        assert (await run(engine, sink, TEXT, Sampling())).error.reason == "UPSTREAM_FULL"
        await sink.until(lambda: sink.steps[-1].load.waiting == 0)
        upstream.answers[COMPLETIONS] = stream_answer(text_event("a", "stop"), "[DONE]")
        engine.submit(Work(1002, TEXT, Sampling()))
        assert (await sink.ended(1002))[0].text == "a"


async def test_those_that_wait_behind_a_refusal_go_elsewhere_at_once(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = json_answer({"error": "slow down"}, 429)
    async with opened(upstream, max_running=1) as (engine, sink):
        for key in (1001, 1002, 1003):
            engine.submit(Work(key, TEXT, Sampling()))
        assert {got.error.reason for got in await sink.ended(1001, 1002, 1003)} == {"UPSTREAM_FULL"}
    assert len(upstream.bodies(COMPLETIONS)) == 1


async def test_an_upstream_that_takes_a_request_and_says_nothing_is_silent_too(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = Answer(mute=True)
    async with opened(upstream, silence_limit_s=0.05) as (engine, sink):
        error = (await run(engine, sink, TEXT, Sampling())).error
        await upstream.left.wait()
    assert "silent for 0.05 s" in error.message


async def test_one_that_never_says_what_it_is_stops_the_worker(upstream: FakeUpstream) -> None:
    upstream.answers["/v1/models"] = Answer(mute=True)
    with pytest.raises(UpstreamError, match=r"did not answer within 0\.1 s"):
        async with opened(upstream, health_timeout_s=0.1):
            pass


@pytest.mark.parametrize(
    "card",
    [
        pytest.param({"id": "a", "max_model_len": "many"}, id="no-number"),
        pytest.param({"id": "a", "meta": "none"}, id="no-object"),
    ],
)
async def test_a_card_that_cannot_be_read_is_one_sentence(upstream: FakeUpstream, card: dict[str, Any]) -> None:
    upstream.answers["/v1/models"] = json_answer({"data": [card]})
    with pytest.raises(UpstreamError, match="does not answer as an OpenAI-compatible server does"):
        async with opened(upstream):
            pass


async def test_a_server_that_comes_back_with_nonsense_and_then_well_is_used_again(upstream: FakeUpstream) -> None:
    port = int(upstream.url.rsplit(":", 1)[1])
    async with opened(upstream) as (engine, sink):
        await upstream.stop()
        await sink.until(lambda: sink.steps and sink.steps[-1].load.broken)
        good = upstream.answers["/v1/models"]
        upstream.answers["/v1/models"] = Answer(b"[" * 100_000)
        asked = len(upstream.requests)
        await upstream.start(port)
        while len(upstream.requests) < asked + 4:
            await asyncio.sleep(0.01)
        assert engine.load().broken
        upstream.answers["/v1/models"] = good
        await sink.until(lambda: not sink.steps[-1].load.broken)


async def test_gauges_that_are_no_numbers_do_not_end_the_watch(upstream: FakeUpstream) -> None:
    upstream.answers["/v1/models"] = json_answer({"data": [{"id": "m", "owned_by": "sglang"}]})
    upstream.answers["/health"] = Answer()
    metrics = "sglang:num_running_reqs +Inf\nsglang:num_queue_reqs NaN\nsglang:token_usage 1e999\n"
    upstream.answers["/metrics"] = Answer(metrics.encode())
    async with opened(upstream) as (engine, sink):
        await sink.until(lambda: sink.steps)
        assert engine.load().running == 0
        upstream.answers["/metrics"] = Answer(b"sglang:num_running_reqs 3\n")
        await sink.until(lambda: sink.steps[-1].load.running == 3)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(CHUNKED + b"ffffffffffff\r\n", id="chunk-without-end"),
        pytest.param(CHUNKED + b"-5\r\n", id="negative-chunk"),
        pytest.param(b"HTTP/1.1 200 X\r\ncontent-length: 99999999999\r\n\r\n", id="endless-body"),
        pytest.param(b"HTTP/1.1 200 X\r\n" + b"a: b\r\n" * 1000, id="endless-head"),
        pytest.param(b"HTTP/1.1 200 X\r\na: " + b"b" * 100_000 + b"\r\n\r\n", id="long-header"),
        pytest.param(CHUNKED + b"%x\r\n%s\r\n" % (100_007, b"data: " + b"[" * 100_000 + b"\n"), id="deep-event"),
        pytest.param(b"HTTP/1.1 200 X\r\n\r\ndata: " + b"x" * 300_000, id="line-without-end"),
    ],
)
async def test_an_answer_beyond_all_measure_is_a_broken_one(
    upstream: FakeUpstream, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LINE_LIMIT_BYTES", 200_000)
    upstream.answers[COMPLETIONS] = Answer(raw=raw)
    async with opened(upstream) as (engine, sink), asyncio.timeout(5.0):
        error = (await run(engine, sink, TEXT, Sampling())).error
    assert error.code.name == "UNAVAILABLE"


async def test_a_body_without_end_is_not_read_to_the_end(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_LIMIT_BYTES", 10_000)
    async with opened(upstream) as (engine, sink):
        upstream.answers[COMPLETIONS] = Answer(raw=b"HTTP/1.1 500 X\r\n\r\n" + b"x" * 1_000_000)
        error = (await run(engine, sink, TEXT, Sampling())).error
    assert "broke off" in error.message


async def test_what_the_contract_cannot_carry_fails_that_answer_or_counts_as_nothing(upstream: FakeUpstream) -> None:
    async with opened(upstream) as (engine, sink):
        for ids in ([-1], [1 << 32], ["a"], [1.5]):
            event = {"choices": [{"index": 0, "text": "a", "token_ids": ids}]}
            upstream.answers[COMPLETIONS] = stream_answer(event, "[DONE]")
            assert (await run(engine, sink, TEXT, Sampling())).error.reason == "ENGINE_FAILED"
        counted = {
            "prompt_tokens": -3,
            "completion_tokens": (1 << 32) - 1,
            "prompt_tokens_details": {"cached_tokens": "x"},
        }
        upstream.answers[COMPLETIONS] = stream_answer(
            text_event("a", "stop"), {"choices": [], "usage": counted}, "[DONE]"
        )
        got = await run(engine, sink, TEXT, Sampling())
    assert (got.finish.prompt_tokens, got.finish.cached_tokens) == (0, 0)
    assert got.finish.completion_tokens == 1 + UNSHOWN_LIMIT
    assert isinstance(convert.from_outcome(1, got.finish).finish.usage.completion_tokens, int)


def test_half_of_a_character_in_a_log_probability_is_replaced() -> None:
    wire = convert.from_logprob(Logprob(7, "a\ud83d", -1.0, (Logprob(8, "\udc00", -2.0),)))
    assert wire.text.startswith("a\ufffd")
    assert set(wire.alternatives[0].text) == {"\ufffd"}


async def test_an_address_that_cannot_be_one_is_one_sentence(upstream: FakeUpstream) -> None:
    upstream.url = "http://127.0.0.1:99999"
    with pytest.raises(WeftError, match=r"worker\.openai\.base_url"):
        async with opened(upstream):
            pass
