"""The openai engine over llama.cpp's own HTTP server, a process of its own: what is asked for reaches a real engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.kit.settings.engines.openai import OpenAISettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.http import HttpClient
from services.worker.engines.openai.engine import OpenAIEngine
from services.worker.engines.openai.load import open_openai
from services.worker.engines.openai.refusal import to_refusal
from services.worker.ports import (
    Conversation,
    Form,
    Message,
    Reason,
    Rendered,
    Role,
    Sampling,
    Structure,
    Tokenised,
    Work,
)
from tests.engines.servers import llama_server
from tests.unit.worker.collector import Collector
from tests.unit.worker.resume import run

HI = Conversation((Message(Role.USER, "hi there"),))
GREEDY = Sampling(temperature=0.0, max_tokens=24)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("llama")
    with llama_server(folder) as url:
        yield url


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[OpenAIEngine, Collector]]:
    sink = Collector()
    own = OpenAISettings(base_url=f"{url}/v1", health_every_s=0.05)
    async with open_openai(WorkerSettings(engine="openai", openai=own), sink) as engine:
        yield engine, sink


async def test_what_it_says_of_itself(llama: str) -> None:
    async with opened(llama) as (engine, _):
        about = engine.about
    assert (about.engine, about.max_running, about.context_tokens) == ("openai", 8, 1024)
    assert about.text_only
    assert not about.exact_resume
    assert about.tokenizer_fingerprint == f"text:{about.model}"


async def test_a_chat_is_templated_by_the_server(llama: str) -> None:
    rendered = Rendered("<|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\n")
    async with opened(llama) as (engine, sink):
        chat, text = await run(engine, sink, HI, GREEDY), await run(engine, sink, rendered, GREEDY)
    assert chat.text == text.text
    assert chat.started == chat.finish.prompt_tokens == text.finish.prompt_tokens > 0
    assert chat.finish.completion_tokens == len(chat.ids) == 24
    assert set(chat.ids) == {0}


@pytest.mark.parametrize("prompt", [HI, Rendered("It is a fact that"), Tokenised((70, 80, 300))], ids=str)
async def test_a_resumed_answer_has_no_gap_and_no_repeat(
    llama: str, prompt: Conversation | Rendered | Tokenised
) -> None:
    async with opened(llama) as (engine, sink):
        whole = await run(engine, sink, prompt, Sampling(temperature=0.0, max_tokens=12))
        count = 3
        shown = "".join(whole.texts[:count])
        sink.resumed[999] = count
        engine.submit(Work(999, prompt, Sampling(temperature=0.0, max_tokens=12), (0,) * count, shown))
        (rest,) = await sink.ended(999)
    assert whole.text.startswith(shown)
    assert rest.text
    assert rest.finish.completion_tokens == 12


async def test_a_cancel_frees_the_slot_of_a_real_server(llama: str) -> None:
    client = HttpClient(llama, {}, to_refusal, name="llama.cpp", keep=False)

    async def processing() -> float:
        lines = (await client.get_text("/metrics")).splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("llamacpp:requests_processing "))

    async with opened(llama) as (engine, sink):
        engine.submit(Work(1, HI, Sampling(temperature=0.0)))
        await sink.tokens(1)
        assert await processing() == 1
        engine.cancel(1)
        async with asyncio.timeout(1.0):
            while await processing():
                pass
    assert sink.of[1].finish.reason is Reason.CANCELLED


async def test_more_than_its_slots_wait(llama: str) -> None:
    async with opened(llama) as (engine, sink):
        for key in range(1, 11):
            engine.submit(Work(key, HI, GREEDY))
        assert engine.load().waiting >= 2
        answers = await sink.ended(*range(1, 11))
    assert len({got.text for got in answers}) == 1


@pytest.mark.parametrize(
    ("structure", "text"),
    [
        pytest.param(Structure(Form.CHOICES, choices=("maybe",)), "maybe", id="choices"),
        pytest.param(Structure(Form.REGEX, "a{3}"), "aaa", id="regex"),
        pytest.param(Structure(Form.GRAMMAR, 'root ::= "ok"'), "ok", id="grammar"),
    ],
)
async def test_structures(llama: str, structure: Structure, text: str) -> None:
    async with opened(llama) as (engine, sink):
        assert (await run(engine, sink, HI, Sampling(max_tokens=40, structure=structure))).text == text


async def test_a_structure_that_llamacpp_leaves_out_is_refused(llama: str) -> None:
    async with opened(llama) as (engine, sink):
        error = (await run(engine, sink, HI, Sampling(structure=Structure(Form.REGEX, "([")))).error
    assert (error.code.name, error.field) == ("INVALID_ARGUMENT", "sampling.structure.regex")
