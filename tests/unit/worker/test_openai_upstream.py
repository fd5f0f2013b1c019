"""The openai engine beside a server that misbehaves: every failure has its own error, and none is taken for an end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.kit.errors import WeftError
from services.kit.settings.engines.openai import OpenAISettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.openai.engine import OpenAIEngine
from services.worker.engines.openai.load import open_openai
from services.worker.engines.openai.refusal import UpstreamError
from services.worker.ports import (
    Conversation,
    Form,
    Message,
    Reason,
    Rendered,
    Role,
    Sampling,
    Step,
    Structure,
    Tokenised,
    Work,
)
from tests.fakes.openai_server import Answer, FakeUpstream, fake_upstream, json_answer, stream_answer, text_event
from tests.unit.worker.collector import Collector
from tests.unit.worker.resume import run

TEXT = Rendered("Once")
CHAT = Conversation((Message(Role.USER, "hi"),))
COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with fake_upstream() as found:
        yield found


class Sink(Collector):
    """Lets a test wait for what a step says of the load."""

    def __init__(self) -> None:
        super().__init__()
        self._stepped = asyncio.Event()

    def __call__(self, step: Step) -> None:
        super().__call__(step)
        self._stepped.set()

    async def until(self, done: Callable[[], object]) -> None:
        """Returns after the first step for which it holds."""
        while not done():
            self._stepped.clear()
            await self._stepped.wait()


@asynccontextmanager
async def opened(
    upstream: FakeUpstream, *, max_running: int = 0, **settings: Any
) -> AsyncIterator[tuple[OpenAIEngine, Sink]]:
    sink = Sink()
    own = {"start_limit_s": 0.0, "health_every_s": 0.02, **settings}
    mine = OpenAISettings(base_url=upstream.url, **own)
    worker = WorkerSettings(engine="openai", openai=mine, max_running=max_running)
    async with open_openai(worker, sink) as engine:
        yield engine, sink


async def test_an_answer(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = stream_answer(text_event(" up"), text_event(" a", "stop"), USAGE, "[DONE]")
    async with opened(upstream) as (engine, sink):
        assert engine.about.text_only
        assert engine.about.tokenizer_fingerprint == "", "nothing says that it goes on with a last assistant message"
        got = await run(engine, sink, TEXT, Sampling(temperature=0.5, max_tokens=9, stop=("zz",)))
    assert (got.text, got.ids) == (" up a", [0, 0])
    assert (got.finish.reason, got.finish.prompt_tokens, got.finish.completion_tokens) == (Reason.STOP, 7, 2)
    (body,) = upstream.bodies(COMPLETIONS)
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("fake", 0.5, 9)
    assert "stop" not in body, "stop strings are the worker's work"


async def test_the_key_and_more_headers_are_sent(upstream: FakeUpstream) -> None:
    async with opened(upstream, api_key="s3cret", headers={"X-Tenant": "a"}):
        pass
    _, headers, _ = upstream.requests[0]
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer s3cret", "a")


@pytest.mark.parametrize("url", ["http://gpu-1.invalid:8000", "http://127.0.0.1.invalid:8000/v1"])
@pytest.mark.parametrize(
    ("secrets", "named"),
    [
        pytest.param({"api_key": "s3cret"}, "worker.openai.api_key would", id="key"),
        pytest.param({"headers": {"X-Key": "s3cret"}}, "worker.openai.headers would", id="headers"),
        pytest.param({"api_key": "s3cret", "headers": {"X-A": "b"}}, "worker.openai.api_key and headers", id="both"),
    ],
)
async def test_no_key_goes_to_another_machine_in_plain_text(url: str, secrets: dict[str, Any], named: str) -> None:
    async def start(**more: Any) -> str:
        mine = OpenAISettings(base_url=url, start_limit_s=0.0, **secrets, **more)
        with pytest.raises(UpstreamError) as caught:
            async with open_openai(WorkerSettings(engine="openai", openai=mine), Sink()):
                pass
        assert "s3cret" not in caught.value.message
        return caught.value.message

    refused = await start()
    assert named in refused
    assert "allow_plain_text" in refused
    assert "cannot be reached" in await start(allow_plain_text=True)


def as_vllm(upstream: FakeUpstream, *adapters: str) -> None:
    """It answers as `vllm serve` does to whoever asks what it is."""
    cards: list[dict[str, Any]] = [{"id": "fake", "owned_by": "vllm", "max_model_len": 512}]
    cards += [{"id": name, "owned_by": "vllm", "parent": "fake"} for name in adapters]
    upstream.answers |= {
        "/v1/models": json_answer({"data": cards}),
        "/tokenize": json_answer({"tokens": [1, 2, 3], "token_strs": ["a", "b", "c"]}),
        "/detokenize": json_answer({"prompt": "abc"}),
        COMPLETIONS: json_answer({"choices": [{"text": "a", "token_ids": [1]}]}),
        "/health": json_answer({}),
    }


@pytest.mark.parametrize("exact", [False, True], ids=["half-precision", "float32"])
async def test_vllm_promises_what_the_settings_say_of_its_precision(upstream: FakeUpstream, exact: bool) -> None:
    """It cannot be asked; and no server's noise is keyed by the place, whatever the precision."""
    as_vllm(upstream)
    async with opened(upstream, exact=exact) as (engine, _):
        about = engine.about
    assert about.exact_resume is exact
    assert about.tokenizer_fingerprint.startswith("vllm:")
    assert not (about.text_only or about.position_keyed_sampling or about.replays_penalties or about.replays_structure)


async def test_a_seeded_answer_goes_on_whatever_its_seed(upstream: FakeUpstream) -> None:
    """A seed beyond 64 bits would be refused, and the answer with it that the client has begun to read."""
    as_vllm(upstream)
    async with opened(upstream) as (engine, sink):
        event = {"choices": [{"index": 0, "text": "b", "token_ids": [2], "finish_reason": "length"}]}
        upstream.answers[COMPLETIONS] = stream_answer(event, "[DONE]")
        got = await run(engine, sink, Tokenised((1, 2)), Sampling(seed=2**63 - 1, max_tokens=4), resume=(1, 1, 3))
    assert got.finish.completion_tokens == 4
    body = upstream.bodies(COMPLETIONS)[-1]
    assert (body["prompt"], body["seed"], body["max_tokens"]) == ([1, 2, 1, 1, 3], 2, 1)


async def test_a_name_that_asks_for_an_adapter_is_not_the_models(upstream: FakeUpstream) -> None:
    as_vllm(upstream, "a", "b")
    mine = OpenAISettings(base_url=upstream.url, start_limit_s=0.0)
    with pytest.raises(UpstreamError, match=r"an adapter 'b'.*worker\.model_name"):
        async with open_openai(WorkerSettings(engine="openai", openai=mine, model_name="b"), Sink()):
            pass


async def test_a_resumed_chat_goes_on_after_its_text(upstream: FakeUpstream) -> None:
    upstream.answers[CHATS] = stream_answer(
        {"choices": [{"index": 0, "delta": {"content": "there", "reasoning_content": "hm"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        "[DONE]",
    )
    async with opened(upstream, continues=True) as (engine, sink):
        assert engine.about.tokenizer_fingerprint == "text:fake"
        sink.resumed[1] = 3
        engine.submit(Work(1, CHAT, Sampling(max_tokens=10), (0, 0, 0), "hello "))
        (got,) = await sink.ended(1)
    assert (got.text, got.finish.reason, got.finish.completion_tokens) == ("there", Reason.LENGTH, 4)
    (body,) = upstream.bodies(CHATS)
    assert body["messages"][-1] == {"role": "assistant", "content": "hello "}
    assert body["max_tokens"] == 7


@pytest.mark.parametrize(
    ("answer", "code", "reason", "words", "delay_s"),
    [
        pytest.param(
            json_answer({"error": {"message": "too hot", "param": "temperature"}}, 400),
            *("INVALID_ARGUMENT", "ENGINE_REFUSED", "too hot", None),
            id="wrong-request",
        ),
        pytest.param(
            json_answer({"error": "slow down"}, 429, retry_after="3"),
            *("RESOURCE_EXHAUSTED", "UPSTREAM_FULL", "slow down", 3.0),
            id="full",
        ),
        pytest.param(
            json_answer({"detail": "loading"}, 503, retry_after="1.5"),
            *("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "loading", 1.5),
            id="away",
        ),
        pytest.param(
            Answer(b"<html>bad gateway</html>", 502),
            *("UNAVAILABLE", "ENGINE_FAILED", "bad gateway", None),
            id="no-json",
        ),
        pytest.param(
            json_answer({"error": {"message": "no"}}, 401),
            *("UNAVAILABLE", "UPSTREAM_KEY_REFUSED", "worker.openai.api_key", None),
            id="key",
        ),
        pytest.param(
            stream_answer({"error": {"message": "out of memory", "code": 500}}),
            *("UNAVAILABLE", "ENGINE_FAILED", "out of memory", None),
            id="error-in-stream",
        ),
        pytest.param(
            stream_answer(text_event("a"), "{broken"),
            *("UNAVAILABLE", "ENGINE_BROKEN", "broke off", None),
            id="broken-json",
        ),
        pytest.param(stream_answer(text_event("a")), *("UNAVAILABLE", "ENGINE_BROKEN", "broke off", None), id="no-end"),
        pytest.param(
            stream_answer(text_event("a"), cut=True),
            *("UNAVAILABLE", "ENGINE_BROKEN", "broke off", None),
            id="cut",
        ),
        pytest.param(
            stream_answer(text_event("a", "abort"), "[DONE]"),
            *("UNAVAILABLE", "ENGINE_BROKEN", "gave the answer up", None),
            id="aborted",
        ),
    ],
)
async def test_failures(
    upstream: FakeUpstream, answer: Answer, code: str, reason: str, words: str, delay_s: float | None
) -> None:
    upstream.answers[COMPLETIONS] = answer
    async with opened(upstream) as (engine, sink):
        error = (await run(engine, sink, TEXT, Sampling(max_tokens=4))).error
    assert (error.code.name, error.reason, error.retry_delay_s) == (code, reason, delay_s)
    assert words in error.message
    assert error.field == ("sampling.temperature" if reason == "ENGINE_REFUSED" else "")


async def test_a_finished_answer_without_the_last_mark_is_complete(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = stream_answer(text_event("a", "stop"))
    async with opened(upstream) as (engine, sink):
        assert (await run(engine, sink, TEXT, Sampling())).finish.reason is Reason.STOP


async def test_a_cancel_closes_the_stream(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = stream_answer(text_event("a"), hold=True)
    async with opened(upstream) as (engine, sink):
        engine.submit(Work(1, TEXT, Sampling()))
        await sink.tokens(1)
        engine.cancel(1)
        assert sink.of[1].finish.reason is Reason.CANCELLED
        await upstream.left.wait()


async def test_a_stop_string_ends_the_answer_and_the_upstreams_work(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = stream_answer(text_event("one tw"), text_event("o three"), hold=True)
    async with opened(upstream) as (engine, sink):
        got = await run(engine, sink, TEXT, Sampling(stop=("two",)))
        assert (got.text, got.finish.reason) == ("one ", Reason.STOP)
        await upstream.left.wait()


async def test_silence_is_a_broken_stream(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = stream_answer(text_event("a"), hold=True)
    async with opened(upstream, silence_limit_s=0.05) as (engine, sink):
        error = (await run(engine, sink, TEXT, Sampling())).error
    assert error.reason == "ENGINE_BROKEN"
    assert "silent for 0.05 s" in error.message


async def test_an_upstream_that_goes_ends_every_request_and_one_that_comes_back_serves(upstream: FakeUpstream) -> None:
    upstream.answers[COMPLETIONS] = stream_answer(text_event("a"), hold=True)
    port = int(upstream.url.rsplit(":", 1)[1])
    async with opened(upstream) as (engine, sink):
        engine.submit(Work(1, TEXT, Sampling()))
        await sink.tokens(1)
        await upstream.stop()
        (got,) = await sink.ended(1)
        assert (got.error.code.name, got.error.reason) == ("UNAVAILABLE", "ENGINE_BROKEN")
        await sink.until(lambda: sink.steps[-1].load.broken)
        assert "cannot be reached" in engine.load().broken
        with pytest.raises(WeftError, match="cannot be reached"):
            engine.submit(Work(2, TEXT, Sampling()))
        await upstream.start(port)
        await sink.until(lambda: not sink.steps[-1].load.broken)
        upstream.answers[COMPLETIONS] = stream_answer(text_event("a", "stop"), "[DONE]")
        assert (await run(engine, sink, TEXT, Sampling())).text == "a"


async def test_another_model_in_its_place_is_not_taken_for_the_same(upstream: FakeUpstream) -> None:
    port = int(upstream.url.rsplit(":", 1)[1])
    async with opened(upstream) as (engine, sink):
        await upstream.stop()
        await sink.until(lambda: sink.steps and sink.steps[-1].load.broken)
        upstream.answers["/v1/models"] = json_answer({"data": [{"id": "other"}]})
        asked = len(upstream.requests)
        await upstream.start(port)
        while len(upstream.requests) < asked + 4:
            await asyncio.sleep(0.01)
        assert engine.load().broken


@pytest.mark.parametrize(
    ("models", "settings", "words"),
    [
        pytest.param(json_answer({"error": "no key"}, 401), {}, "worker.openai.api_key", id="key"),
        pytest.param(json_answer({"data": []}), {}, "serves 0 models", id="no-model"),
        pytest.param(json_answer({"data": [{"id": "a"}, {"id": "b"}]}), {}, "a, b", id="which-model"),
        pytest.param(json_answer({"data": [{"id": "a"}]}), {"model": "c"}, "does not serve 'c'; it has a", id="other"),
        pytest.param(json_answer({"x": 1}), {}, "OpenAI-compatible", id="no-list"),
        pytest.param(Answer(b"", 404), {}, "/v1/models", id="no-such-path"),
        pytest.param(Answer(b"", 503), {}, "start the server", id="away"),
    ],
)
async def test_an_upstream_that_cannot_be_used_stops_the_worker(
    upstream: FakeUpstream, models: Answer, settings: dict[str, str], words: str
) -> None:
    upstream.answers["/v1/models"] = models
    with pytest.raises(UpstreamError, match=words):
        async with opened(upstream, **settings):
            pass


async def test_a_structure_that_the_server_has_no_words_for_is_refused(upstream: FakeUpstream) -> None:
    async with opened(upstream) as (engine, sink):
        error = (await run(engine, sink, TEXT, Sampling(structure=Structure(Form.REGEX, "a+")))).error
    assert (error.code.name, error.field) == ("INVALID_ARGUMENT", "sampling.structure.regex")


async def test_load_counts_what_others_do_there(upstream: FakeUpstream) -> None:
    upstream.answers["/v1/models"] = json_answer({"data": [{"id": "m", "owned_by": "sglang"}]})
    upstream.answers["/health"] = Answer()
    metrics = 'sglang:num_running_reqs{a="b"} 5.0\nsglang:num_queue_reqs 2\nsglang:token_usage 0.25\n'
    upstream.answers["/metrics"] = Answer(metrics.encode())
    async with opened(upstream) as (engine, sink):
        await sink.until(lambda: sink.steps)
        load = engine.load()
    assert (load.running, load.waiting, load.kv_usage) == (5, 2, 0.25)
