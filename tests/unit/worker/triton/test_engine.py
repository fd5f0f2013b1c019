"""The triton engine on a real Triton server with a tiny random model: what it is told, and what reaches the model."""

import asyncio
import contextlib
from pathlib import Path

import httpx
import pytest

from services.kit.errors import InvalidArgument, Unavailable
from services.worker.engines.triton.readings import read_metrics
from services.worker.ports import (
    Conversation,
    Finish,
    Form,
    Message,
    Prompt,
    Reason,
    Rendered,
    Role,
    Sampling,
    Structure,
    Tokenised,
    Work,
)
from tests.fakes.triton.server import TritonServer
from tests.unit.worker.collector import Collector, Got
from tests.unit.worker.resume import run
from tests.unit.worker.triton.conftest import Opener, opened

HI = Conversation((Message(Role.USER, "hi there"),))
RENDERED = "<|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\n"
GREEDY = Sampling(temperature=0.0, max_tokens=24)
ENDLESS = Sampling(temperature=0.0)


async def until_model_runs(server: TritonServer, model: str, count: int) -> None:
    """Waits for the model's own count of the requests that it works on."""
    async with httpx.AsyncClient() as client:
        while (await read_metrics(client, server.metrics_url, model)).running != count:
            await asyncio.sleep(0.02)


async def test_it_says_what_it_is(opener: Opener) -> None:
    async with opener(adapters=["other"], structure="structured_outputs") as (engine, _):
        about = engine.about
    assert (about.engine, about.model, about.context_tokens) == ("triton", "vllm_model", 512)
    assert (about.text_only, about.tokenizer_fingerprint) == (True, "text:vllm_model")
    assert (about.logprobs, about.structured_output, about.adapters) == (True, True, ("other",))
    assert not (about.exact_resume or about.replays_penalties or about.replays_structure)


@pytest.mark.parametrize("counted", [True, False], ids=["with-tokenizer", "without"])
async def test_an_answer(opener: Opener, tiny_folder: Path, counted: bool) -> None:
    async with opener(tokenizer=tiny_folder if counted else None) as (engine, sink):
        got = await run(engine, sink, Rendered(RENDERED), GREEDY)
    assert got.ids == [0] * 24
    assert len(got.texts) > 4
    assert got.finish == Finish(Reason.LENGTH, got.started or 0, 0, 24)
    assert got.started == 13


async def test_a_chat_template_makes_text_of_a_conversation(opener: Opener, tiny_folder: Path) -> None:
    async with opener(tokenizer=tiny_folder) as (engine, sink):
        chat = await run(engine, sink, HI, GREEDY)
        text = await run(engine, sink, Rendered(RENDERED), GREEDY)
    assert (chat.text, chat.started) == (text.text, text.started)


async def test_a_template_file_alone_is_enough(opener: Opener, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{% for message in messages %}{{ message.role | upper }}: {{ message.content }}\n{% endfor %}A:")
    async with opener(chat_template=file) as (engine, sink):
        chat = await run(engine, sink, HI, GREEDY)
        text = await run(engine, sink, Rendered("USER: hi there\nA:"), GREEDY)
    assert chat.text == text.text


@pytest.mark.parametrize("counted", [True, False], ids=["with-tokenizer", "without"])
async def test_it_goes_on_where_a_client_stands(opener: Opener, tiny_folder: Path, counted: bool) -> None:
    async with opener(tokenizer=tiny_folder if counted else None) as (engine, sink):
        whole = await run(engine, sink, Rendered(RENDERED), GREEDY)
        shown = "".join(whole.texts[:7])
        sink.resumed[9077] = 7
        engine.submit(Work(9077, Rendered(RENDERED), GREEDY, (0,) * 7, shown))
        (rest,) = await sink.ended(9077)
        same = await run(engine, sink, Rendered(RENDERED + shown), Sampling(temperature=0.0, max_tokens=17))
    # The collector checks that the first index is 7.
    assert rest.text == same.text
    assert (rest.finish.reason, rest.finish.completion_tokens) == (Reason.LENGTH, 24)
    if counted:
        assert rest.finish.prompt_tokens == whole.finish.prompt_tokens


async def test_an_answer_that_was_complete_ends_at_once(opener: Opener) -> None:
    async with opener() as (engine, sink):
        sink.resumed[5] = 24
        engine.submit(Work(5, Rendered(RENDERED), GREEDY, (0,) * 24, "whatever it was"))
        (got,) = await sink.ended(5)
    assert (got.ids, got.finish.reason, got.finish.completion_tokens) == ([], Reason.LENGTH, 24)


async def test_a_stop_string_ends_the_answer_and_the_models_work(opener: Opener, triton: TritonServer) -> None:
    async with opener(model="slow") as (engine, sink):
        plain = await run(engine, sink, Rendered(RENDERED), GREEDY)
        stop = plain.text[10:14]
        stopped = await run(engine, sink, Rendered(RENDERED), Sampling(temperature=0.0, stop=(stop,)))
        await until_model_runs(triton, "slow", 0)
    assert stopped.text == plain.text[: plain.text.index(stop)]
    assert stopped.finish.reason is Reason.STOP


async def test_seeds(opener: Opener) -> None:
    async with opener() as (engine, sink):
        one, same, other = [
            await run(engine, sink, HI_TEXT, Sampling(temperature=1.0, seed=seed, max_tokens=20)) for seed in (1, 1, 2)
        ]
    assert one.text == same.text != other.text


HI_TEXT = Rendered("hi there")


async def test_an_adapter_is_another_model(opener: Opener) -> None:
    async with opener(adapters=["other", "gone"]) as (engine, sink):
        own = await run(engine, sink, HI_TEXT, GREEDY)
        engine.submit(Work(9050, HI_TEXT, GREEDY, adapter="other"))
        engine.submit(Work(9051, HI_TEXT, GREEDY, adapter="gone"))
        other, gone = await sink.ended(9050, 9051)
    assert other.text != own.text
    assert (gone.error.code.name, gone.error.field) == ("INVALID_ARGUMENT", "sampling")
    assert "LoRA gone is not supported, we currently support ['other']" in gone.error.message


@pytest.mark.parametrize("key", ["structured_outputs", "guided_decoding"])
async def test_a_form(opener: Opener, key: str) -> None:
    choices = Structure(Form.CHOICES, choices=("Grüße", "東京"))
    async with opener(structure=key) as (engine, sink):
        got = await run(engine, sink, HI_TEXT, Sampling(max_tokens=40, structure=choices))
        bad = await run(engine, sink, HI_TEXT, Sampling(max_tokens=40, structure=Structure(Form.GRAMMAR, "root ::= (")))
    assert got.text in choices.choices
    assert got.finish.reason is Reason.STOP
    assert (bad.error.code.name, bad.error.field) == ("INVALID_ARGUMENT", "sampling.structure")


async def test_a_model_that_gives_text_alone(opener: Opener) -> None:
    """One token a chunk, no log probabilities, and an end without a reason."""
    async with opener(model="bare") as (engine, sink):
        assert not engine.about.logprobs
        got = await run(engine, sink, HI_TEXT, GREEDY)
        full = await run(engine, sink, HI_TEXT, Sampling(temperature=0.0, max_tokens=3))
    assert len(got.ids) == len([text for text in got.texts if text]) <= 24
    assert full.finish.reason is Reason.LENGTH
    assert full.finish.completion_tokens == 3


@pytest.mark.parametrize(
    ("prompt", "reason", "field", "says"),
    [
        pytest.param(HI, "NO_CHAT_TEMPLATE", "prompt.conversation", "worker.triton.tokenizer", id="no-template"),
        pytest.param(Tokenised((1, 2)), "UNSUPPORTED", "prompt.token_ids", "send messages or text", id="token-ids"),
        pytest.param(Rendered("word " * 600), "PROMPT_TOO_LONG", "prompt", "longer than", id="too-long-for-the-model"),
        pytest.param(Rendered("word " * 90_000), "PROMPT_TOO_LONG", "prompt", "450,000 characters", id="far-too-long"),
    ],
)
async def test_refusals(opener: Opener, prompt: Prompt, reason: str, field: str, says: str) -> None:
    async with opener() as (engine, sink):
        error = await refused(engine.submit, sink, prompt)
        assert (error.code.name, error.reason, error.field) == ("INVALID_ARGUMENT", reason, field)
        assert says in error.message
        assert engine.load().running == 0


async def refused(submit: object, sink: Collector, prompt: Prompt) -> InvalidArgument:
    assert callable(submit)
    try:
        submit(Work(9001, prompt, GREEDY))
    except InvalidArgument as error:
        return error
    error = (await sink.ended(9001))[0].error
    assert isinstance(error, InvalidArgument)
    assert sink.of[9001].started is None
    return error


@pytest.mark.parametrize("context_tokens", [64, 200])
async def test_the_context_that_the_settings_name_holds(opener: Opener, context_tokens: int) -> None:
    async with opener(context_tokens=context_tokens) as (engine, sink):
        assert engine.about.context_tokens == context_tokens
        got = await run(engine, sink, HI_TEXT, ENDLESS)
        error = await refused(engine.submit, sink, Rendered("word " * (context_tokens + 10)))
    assert got.finish.reason is Reason.LENGTH
    assert got.finish.prompt_tokens + got.finish.completion_tokens == context_tokens
    assert error.reason == "PROMPT_TOO_LONG"


async def test_many_run_at_once_and_the_rest_wait(opener: Opener) -> None:
    async with opener(max_running=4) as (engine, sink):
        for key in range(1, 11):
            engine.submit(Work(key, HI_TEXT, GREEDY))
        assert (engine.load().running, engine.load().waiting) == (4, 6)
        answers = await sink.ended(*range(1, 11))
        assert (engine.load().running, engine.load().waiting) == (0, 0)
    assert len({got.text for got in answers}) == 1
    assert any(len(step.tokens) > 1 for step in sink.steps), "one step carries several"


async def test_cancels_reach_the_model(opener: Opener, triton: TritonServer) -> None:
    async with opener(model="slow", max_running=2) as (engine, sink):
        for key in (1, 2, 3):
            engine.submit(Work(key, HI_TEXT, ENDLESS))
        await sink.tokens(1, 3)
        await until_model_runs(triton, "slow", 2)
        engine.cancel(3)
        engine.cancel(1)
        assert sink.of[1].finish.reason is Reason.CANCELLED
        assert sink.of[1].finish.completion_tokens == len(sink.of[1].ids)
        assert (engine.load().running, engine.load().waiting) == (1, 0)
        await until_model_runs(triton, "slow", 1)
        engine.cancel(2)
        await until_model_runs(triton, "slow", 0)


async def test_closing_frees_the_model(opener: Opener, triton: TritonServer) -> None:
    async with opener(model="slow") as (engine, sink):
        for key in (1, 2, 3):
            engine.submit(Work(key, HI_TEXT, ENDLESS))
        await sink.tokens(3)
    await until_model_runs(triton, "slow", 0)


async def test_others_requests_are_in_the_readings(opener: Opener, triton: TritonServer) -> None:
    async with (
        opener(model="slow", metrics_url=triton.metrics_url) as (engine, _),
        opened(triton, model="slow") as (others, sink),
    ):
        for key in range(20):
            others.submit(Work(key, HI_TEXT, ENDLESS))
        await sink.tokens(15)
        async with asyncio.timeout(10):
            while engine.load().running + engine.load().waiting != 20:
                await asyncio.sleep(0.05)
            load = engine.load()
            assert (load.running, load.waiting, load.kv_usage) == (16, 4, 1.0)
            for key in range(20):
                others.cancel(key)
            while engine.load().running + engine.load().waiting:
                await asyncio.sleep(0.05)


async def broken(engine: object, *, is_so: bool) -> None:
    async with asyncio.timeout(60):
        while bool(engine.load().broken) is not is_so:  # type: ignore[attr-defined]  # any engine
            await asyncio.sleep(0.02)


async def test_triton_dies_and_comes_back(own_triton: TritonServer) -> None:
    own_triton.start()
    await asyncio.to_thread(own_triton.wait_ready)
    async with opened(own_triton, max_running=2) as (engine, sink):
        for key in (9001, 9002, 9003):
            engine.submit(Work(key, HI_TEXT, ENDLESS))
        await sink.tokens(9001, 3)
        own_triton.kill()
        ended = await sink.ended(9001, 9002, 9003)
        assert [got.error.reason for got in ended] == ["ENGINE_BROKEN"] * 3
        assert all(isinstance(got.error, Unavailable) for got in ended)
        assert all(step.load.broken for step in sink.steps if step.ended)
        await broken(engine, is_so=True)
        assert own_triton.url in engine.load().broken
        with pytest.raises(Unavailable, match="cannot be reached"):
            engine.submit(Work(9004, HI_TEXT, GREEDY))
        own_triton.start()
        await broken(engine, is_so=False)
        assert not sink.steps[-1].load.broken
        assert (await run(engine, sink, HI_TEXT, GREEDY)).finish.completion_tokens == 24


async def test_the_models_own_process_dies(own_triton: TritonServer) -> None:
    """Triton calls such a model ready and leaves its streams open for ever."""
    own_triton.start()
    await asyncio.to_thread(own_triton.wait_ready)
    async with opened(own_triton) as (engine, sink):
        engine.submit(Work(9001, HI_TEXT, ENDLESS))
        await sink.tokens(9001, 3)
        own_triton.kill_models()
        (got,) = await sink.ended(9001)
        assert (got.error.reason, got.error.code.name) == ("ENGINE_BROKEN", "UNAVAILABLE")
        # On a busy machine Triton may first be too late to answer, and that ends the request before its death is known.
        await died(engine)
        await engine.ask()
        assert engine.load().broken, "Triton's word alone is not enough"
        own_triton.kill()
        own_triton.start()
        await asyncio.to_thread(own_triton.wait_ready)
        await broken(engine, is_so=False)
        assert (await run(engine, sink, HI_TEXT, GREEDY)).finish.completion_tokens == 24


async def died(engine: object) -> None:
    async with asyncio.timeout(60):
        while "has died" not in engine.load().broken:  # type: ignore[attr-defined]  # any engine
            await asyncio.sleep(0.02)


async def test_the_models_own_process_dies_while_triton_hangs(own_triton: TritonServer) -> None:
    """The late Triton ends the request, and once it answers again nothing runs that could tell of the death."""
    own_triton.start()
    await asyncio.to_thread(own_triton.wait_ready)
    async with opened(own_triton, call_timeout_s=0.5) as (engine, sink):
        engine.submit(Work(9001, HI_TEXT, ENDLESS))
        await sink.tokens(9001, 3)
        with own_triton.stopped():
            (got,) = await sink.ended(9001)
            own_triton.kill_models()
        assert got.error.reason == "ENGINE_BROKEN"
        await died(engine)


async def test_triton_hangs(own_triton: TritonServer) -> None:
    own_triton.start()
    await asyncio.to_thread(own_triton.wait_ready)
    async with opened(own_triton, call_timeout_s=0.5) as (engine, sink):
        engine.submit(Work(9001, HI_TEXT, ENDLESS))
        await sink.tokens(9001, 3)
        with own_triton.stopped():
            (got,) = await sink.ended(9001)
            assert got.error.reason == "ENGINE_BROKEN"
            assert "does not answer" in engine.load().broken
        await broken(engine, is_so=False)


async def test_it_waits_for_a_triton_that_starts_later(own_triton: TritonServer) -> None:
    async def later() -> Got:
        async with opened(own_triton, model="") as (engine, sink):
            return await run(engine, sink, HI_TEXT, GREEDY)

    opening = asyncio.create_task(later())
    try:
        await asyncio.sleep(0)
        own_triton.start()
        assert (await opening).finish.completion_tokens == 24
    finally:
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
