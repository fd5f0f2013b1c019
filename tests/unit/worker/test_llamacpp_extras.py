"""The llamacpp engine's structures and adapters, on a tiny random model."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.kit.settings.engines.llamacpp import LlamaCppSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.llamacpp.engine import LlamaCppEngine
from services.worker.engines.llamacpp.gguf import ModelError, read_head
from services.worker.engines.llamacpp.load import open_llamacpp
from services.worker.engines.llamacpp.spelling import Spelling
from services.worker.ports import Form, Reason, Rendered, Sampling, Structure, Work
from tests.fakes.tiny_lora import write_tiny_lora
from tests.unit.worker.collector import Collector
from tests.unit.worker.resume import run

ASK = Rendered("Once upon a time")
SCHEMA = json.dumps({"type": "object", "properties": {"day": {"enum": ["日", "月"]}}, "required": ["day"]})
GREEDY = Sampling(temperature=0.0, max_tokens=24)


@asynccontextmanager
async def opened(model: Path, **own: object) -> AsyncIterator[tuple[LlamaCppEngine, Collector]]:
    sink = Collector()
    cpp = LlamaCppSettings(threads=1, exact=True, **own)  # type: ignore[arg-type]  # settings by name
    async with open_llamacpp(WorkerSettings(engine="llamacpp", model=model, llamacpp=cpp), sink) as engine:
        yield engine, sink


@pytest.mark.parametrize(
    ("structure", "matches"),
    [
        pytest.param(Structure(Form.REGEX, r"[a-c]{3}/x\d"), r"[a-c]{3}/x\d", id="regex"),
        pytest.param(Structure(Form.CHOICES, choices=('say "no"', "東京🚀\n")), 'say "no"|東京🚀\n', id="choices"),
        pytest.param(Structure(Form.GRAMMAR, 'root ::= "नम" [0-9]'), "नम[0-9]", id="grammar"),
        pytest.param(Structure(Form.JSON_SCHEMA, SCHEMA), r'\s*\{\s*"day"\s*:\s*"[日月]"\s*\}\s*', id="schema"),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_answers_keep_to_a_structure(
    tiny_gguf: Path, structure: Structure, matches: str, temperature: float
) -> None:
    pieces = read_head(tiny_gguf).pieces
    async with opened(tiny_gguf) as (engine, sink):
        assert engine.about.structured_output
        assert not engine.about.replays_structure
        sampling = Sampling(temperature=temperature, seed=1, max_tokens=400, structure=structure, logprobs=0)
        got = await run(engine, sink, ASK, sampling)
    assert re.fullmatch(matches, got.text), got.text
    assert got.finish.reason is Reason.STOP
    assert b"".join(pieces[token] for token in got.ids).decode() == got.text
    assert len(got.logprobs) == len(got.ids)


@pytest.mark.parametrize(
    "structure",
    [
        pytest.param(Structure(Form.REGEX, "(["), id="regex"),
        pytest.param(Structure(Form.REGEX, "(?=a)b"), id="lookahead"),
        pytest.param(Structure(Form.JSON_SCHEMA, '{"type": "strng"}'), id="schema"),
        pytest.param(Structure(Form.JSON_SCHEMA, "{"), id="no-json"),
        pytest.param(Structure(Form.GRAMMAR, "root ::= ("), id="grammar"),
    ],
)
async def test_what_llamacpp_would_silently_leave_out_is_refused(tiny_gguf: Path, structure: Structure) -> None:
    async with opened(tiny_gguf) as (engine, sink):
        error = (await run(engine, sink, ASK, Sampling(max_tokens=9, structure=structure))).error
    assert error.code.name == "INVALID_ARGUMENT"
    assert error.field.startswith("sampling.structure")


async def test_adapters(tiny_gguf: Path, tmp_path: Path) -> None:
    files = {name: str(write_tiny_lora(tmp_path / f"{name}.gguf", seed)) for seed, name in enumerate(("a", "b"))}
    async with opened(tiny_gguf) as (engine, sink):
        plain = (await run(engine, sink, ASK, GREEDY)).ids
    async with opened(tiny_gguf, adapters=files) as (engine, sink):
        assert engine.about.adapters == ("a", "b")
        for key, adapter in enumerate(("", "a", "b", "a", ""), start=1000):
            engine.submit(Work(key, ASK, GREEDY, adapter=adapter))
        together = [got.ids for got in await sink.ended(*range(1000, 1005))]
    assert together[0] == together[4] == plain
    assert together[1] == together[3]
    assert len({tuple(ids) for ids in together}) == 3


async def test_an_adapter_named_like_the_model_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    """It would never be applied, since its name asks for the model."""
    adapters = {tiny_gguf.stem: str(write_tiny_lora(tmp_path / "a.gguf", 0))}
    with pytest.raises(ModelError, match=rf"worker\.llamacpp\.adapters.*'{tiny_gguf.stem}'.*worker\.model_name"):
        async with opened(tiny_gguf, adapters=adapters):
            await asyncio.sleep(0)


async def test_an_adapter_that_is_not_there_is_named(tiny_gguf: Path) -> None:
    with pytest.raises(ModelError, match=r"no\.gguf"):
        async with opened(tiny_gguf, adapters={"a": "no.gguf"}):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("data", "count", "ids"),
    [
        pytest.param(b"ab", 2, [0, 1], id="bytes"),
        pytest.param(b"ab", 1, [2], id="one"),
        pytest.param(b"abc", 2, [2, 3], id="longest-first"),
        pytest.param(b"ab", 3, None, id="too-many"),
        pytest.param(b"x", 1, None, id="unknown"),
        pytest.param(b"", 0, [], id="nothing"),
    ],
)
def test_spelling(data: bytes, count: int, ids: list[int] | None) -> None:
    assert Spelling([b"a", b"b", b"ab", b"c", b"", b"a"]).spell(data, count) == ids
