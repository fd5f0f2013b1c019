"""The llamacpp engine on a tiny random model: real tokens, exact resume, real limits, and cancels that free a slot."""

import asyncio
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import xllamacpp

from services.kit.errors import InvalidArgument
from services.kit.settings.engines.llamacpp import LlamaCppSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.llamacpp.engine import LlamaCppEngine
from services.worker.engines.llamacpp.gguf import ModelError, read_head
from services.worker.engines.llamacpp.load import open_llamacpp
from services.worker.engines.llamacpp.wire import UNKNOWN_LOGPROB
from services.worker.ports import Conversation, Message, Prompt, Reason, Rendered, Role, Sampling, Tokenised, Work
from tests.unit.worker.collector import Collector
from tests.unit.worker.resume import check_every_split, run

HI = Conversation((Message(Role.USER, "hi there"),))
GREEDY = Sampling(temperature=0.0, max_tokens=24)

Opener = Callable[..., AbstractAsyncContextManager[tuple[LlamaCppEngine, Collector]]]


@pytest.fixture
def llamacpp(tiny_gguf: Path) -> Opener:
    @asynccontextmanager
    async def opener(**settings: int) -> AsyncIterator[tuple[LlamaCppEngine, Collector]]:
        sink = Collector()
        cpp = LlamaCppSettings(threads=1, exact=True)
        mine = WorkerSettings(engine="llamacpp", model=tiny_gguf, llamacpp=cpp, **settings)  # type: ignore[arg-type]
        async with open_llamacpp(mine, sink) as engine:
            yield engine, sink

    return opener


async def test_resume_at_every_split(llamacpp: Opener) -> None:
    async with llamacpp() as (engine, sink):
        for prompt in (HI, Rendered("日本語 text about é"), Tokenised((70, 80, 300))):
            plain = await check_every_split(engine, sink, prompt, GREEDY)
            # A random model's bytes are seldom whole characters: this is what the split has to survive.
            assert plain.finish.completion_tokens == 24
        stop = plain.text[10:14]
        stopped = await check_every_split(
            engine, sink, prompt, Sampling(temperature=0.0, max_tokens=24, stop=(stop, "\ufffd never"))
        )
        assert stopped.text == plain.text[: plain.text.index(stop)]
        assert stopped.finish.reason is Reason.STOP


@pytest.mark.parametrize(
    "penalties",
    [
        pytest.param({"presence_penalty": 1.5}, id="presence"),
        pytest.param({"frequency_penalty": 1.0}, id="frequency"),
        pytest.param({"presence_penalty": -1.0, "repetition_penalty": 1.3}, id="repetition"),
    ],
)
async def test_resume_at_every_split_with_penalties(llamacpp: Opener, penalties: dict[str, float]) -> None:
    async with llamacpp() as (engine, sink):
        assert engine.about.replays_penalties
        # Longer than the 64 tokens that llama.cpp looks back on, so that some have left that window.
        plain = await run(engine, sink, HI, Sampling(temperature=0.0, max_tokens=72))
        sampling = Sampling(temperature=0.0, max_tokens=72, **penalties)  # type: ignore[arg-type]  # floats alone
        got = await check_every_split(engine, sink, HI, sampling)
        assert got.ids != plain.ids


async def test_a_step_on_a_cpu_may_take_long(llamacpp: Opener) -> None:
    async with llamacpp() as (engine, _):
        assert engine.about.longest_step_s == 60.0


async def test_ids_of_incomplete_characters_are_not_lost(llamacpp: Opener, tiny_gguf: Path) -> None:
    pieces = read_head(tiny_gguf).pieces
    async with llamacpp() as (engine, sink):
        for seed in range(4):
            got = await run(engine, sink, HI, Sampling(temperature=1.5, seed=seed, max_tokens=120))
            assert len(got.ids) == 120
            assert b"".join(pieces[token] for token in got.ids).decode(errors="replace") == got.text
    assert "\ufffd" in got.text


async def test_the_models_own_chat_template_is_used(llamacpp: Opener) -> None:
    rendered = "<|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\n"
    async with llamacpp() as (engine, sink):
        chat = await run(engine, sink, HI, GREEDY)
        text = await run(engine, sink, Rendered(rendered), GREEDY)
    assert chat.started == text.started == chat.finish.prompt_tokens
    assert chat.ids == text.ids


async def test_a_repeated_prompt_comes_from_the_cache(llamacpp: Opener) -> None:
    async with llamacpp(max_running=1) as (engine, sink):
        first = await run(engine, sink, HI, GREEDY)
        again = await run(engine, sink, HI, GREEDY)
    assert first.finish.cached_tokens == 0
    assert again.finish.cached_tokens > 0
    assert again.ids == first.ids


async def test_a_seed_gives_the_same_answer_and_another_seed_another(llamacpp: Opener) -> None:
    async with llamacpp() as (engine, sink):
        one, same, other = [
            await run(engine, sink, HI, Sampling(temperature=1.0, seed=seed, max_tokens=20)) for seed in (1, 1, 2)
        ]
    assert one.ids == same.ids
    assert one.ids != other.ids


async def test_the_choice_is_as_wide_as_it_is_asked_for(llamacpp: Opener) -> None:
    async with llamacpp() as (engine, sink):

        async def ids(**values: float) -> list[int]:
            sampling = Sampling(max_tokens=20, seed=3, **values)  # type: ignore[arg-type]  # numbers alone
            return (await run(engine, sink, HI, sampling)).ids

        greedy = await ids(temperature=0.0)
        assert await ids(temperature=1.5, top_k=1) == greedy
        assert await ids(temperature=1.5, top_p=0.000001) == greedy
        assert await ids(temperature=0.0, top_k=50, top_p=0.9) == greedy
        assert await ids(temperature=1.5) != greedy
        assert await ids() != greedy


async def test_log_probabilities(llamacpp: Opener) -> None:
    async with llamacpp() as (engine, sink):
        got = await run(engine, sink, HI, Sampling(temperature=0.0, max_tokens=12, logprobs=3))
    assert [logprob.token_id for logprob in got.logprobs] == got.ids
    known = [logprob for logprob in got.logprobs if logprob.logprob != UNKNOWN_LOGPROB]
    assert len(known) >= 10
    assert all(len(logprob.alternatives) == 3 for logprob in known)
    assert all(logprob.alternatives[0].token_id == logprob.token_id for logprob in known)
    assert all(logprob.logprob <= 0.0 for logprob in got.logprobs)


async def test_slots_run_together_and_the_rest_wait(llamacpp: Opener) -> None:
    async with llamacpp(max_running=2) as (engine, sink):
        for key in range(1, 6):
            engine.submit(Work(key, HI, Sampling(temperature=0.0, max_tokens=30)))
        assert (engine.load().running, engine.load().waiting) == (2, 3)
        answers = await sink.ended(*range(1, 6))
        assert len({tuple(got.ids) for got in answers}) == 1
        assert (engine.load().running, engine.load().waiting) == (0, 0)
        assert any(len(step.tokens) == 2 for step in sink.steps), "one step carries both"


async def test_cancel_frees_the_slot(llamacpp: Opener) -> None:
    async with llamacpp(max_running=1) as (engine, sink):
        engine.submit(Work(1, HI, Sampling(temperature=0.0)))
        engine.submit(Work(2, HI, Sampling(temperature=0.0)))
        await sink.tokens(1, 5)
        engine.cancel(2)
        engine.cancel(1)
        assert sink.of[1].finish.reason is Reason.CANCELLED
        assert sink.of[1].finish.completion_tokens == len(sink.of[1].ids)
        assert engine.load().running == 0
        # The only slot answers the next one, so llama.cpp has let go of the first.
        assert (await run(engine, sink, HI, GREEDY)).finish.reason is Reason.LENGTH


async def test_the_answer_ends_at_the_context(llamacpp: Opener) -> None:
    async with llamacpp(context_tokens=256) as (engine, sink):
        got = await run(engine, sink, Tokenised(tuple(range(10, 240))), Sampling(temperature=0.0))
        assert (got.finish.reason, got.finish.completion_tokens) == (Reason.LENGTH, 256 - 230)


@pytest.mark.parametrize(
    ("prompt", "resume", "reason", "field"),
    [
        pytest.param(Tokenised(tuple(range(256))), (), "PROMPT_TOO_LONG", "prompt", id="no-room"),
        pytest.param(Tokenised((99_999,)), (), "UNKNOWN_TOKEN", "prompt.token_ids", id="foreign-prompt-token"),
        pytest.param(HI, (99_999,), "UNKNOWN_TOKEN", "resume_token_ids", id="foreign-resumed-token"),
    ],
)
async def test_refusals(llamacpp: Opener, prompt: Prompt, resume: tuple[int, ...], reason: str, field: str) -> None:
    async with llamacpp(context_tokens=256) as (engine, sink):
        try:
            error = (await run(engine, sink, prompt, GREEDY, resume)).error
        except InvalidArgument as raised:
            error = raised
        assert (error.code.name, error.reason, error.field) == ("INVALID_ARGUMENT", reason, field)


async def test_a_worker_that_stops_as_soon_as_it_has_loaded_does_stop(llamacpp: Opener) -> None:
    for _ in range(8):
        async with llamacpp(context_tokens=256) as (engine, _):
            assert engine.load().running == 0


def gguf_head(kind: int, value: bytes) -> bytes:
    """A file of two fields: tokens that are none, and a value of some kind in another's place."""
    tokens = struct.pack("<Q", 21) + b"tokenizer.ggml.tokens" + struct.pack("<IIQIf", 9, 6, 1, 0, 0.0)[:-4]
    name = struct.pack("<Q", 25) + b"tokenizer.ggml.token_type" + struct.pack("<I", kind) + value
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + tokens + name


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "does not begin with GGUF", id="empty"),
        pytest.param(b"PK\x03\x04 something else", "does not begin with GGUF", id="another-format"),
        pytest.param(b"GGUF\x09\0\0\0" + bytes(16), "version 9", id="unknown-version"),
        pytest.param(b"GGUF\x03\0\0\0" + bytes(8) + b"\xff" * 8, "damaged", id="absurd-count"),
        pytest.param(b"GGUF\x03\0\0\0" + bytes(8) + b"\x05" + bytes(7) + b"\x02", "ends too early", id="cut-off"),
        pytest.param(b"GGUF\x03\0\0\0" + bytes(16), "no vocabulary", id="no-vocabulary"),
        pytest.param(gguf_head(6, struct.pack("<f", 1.0)), "not a readable GGUF", id="model's name is a number"),
        pytest.param(gguf_head(9, struct.pack("<IQ", 9, 1) * 5_000), "not a readable GGUF", id="lists in lists"),
    ],
)
async def test_an_unusable_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=says) as caught:
        async with open_llamacpp(WorkerSettings(engine="llamacpp", model=path), Collector()):
            pass
    assert str(path) in caught.value.message


@pytest.fixture
def cut_gguf(tmp_path: Path, tiny_gguf: Path) -> Path:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:200_000])
    return path


async def test_a_file_without_its_weights_is_named(cut_gguf: Path) -> None:
    with pytest.raises(ModelError, match="cannot load"):
        async with open_llamacpp(WorkerSettings(engine="llamacpp", model=cut_gguf), Collector()):
            pass


async def test_no_file_is_a_sentence() -> None:
    with pytest.raises(ModelError, match="needs a model"):
        async with open_llamacpp(WorkerSettings(engine="llamacpp"), Collector()):
            pass


async def test_a_stop_while_the_model_loads_waits_until_llama_cpp_can_be_stopped(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, cancelled, loaded = asyncio.Event(), threading.Event(), threading.Event()
    real, loop = xllamacpp.Server, asyncio.get_running_loop()

    def slow(params: object) -> object:
        loop.call_soon_threadsafe(begun.set)
        cancelled.wait()
        server = real(params)
        loaded.set()
        return server

    monkeypatch.setattr(xllamacpp, "Server", slow)

    async def opens() -> None:
        async with open_llamacpp(WorkerSettings(engine="llamacpp", model=tiny_gguf), Collector()):
            raise AssertionError("it was told to stop before")

    opening = asyncio.create_task(opens())
    await begun.wait()
    opening.cancel()
    loop.call_soon(cancelled.set)
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert loaded.is_set(), "dropped before its loop has begun, it would never end"
