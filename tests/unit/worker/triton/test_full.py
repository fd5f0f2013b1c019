"""A Triton whose queue is full: it is asked once, and whoever comes or waits meanwhile is refused here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.kit.errors import Exhausted
from services.worker.engines.triton.client import StreamError
from services.worker.engines.triton.contract import Contract
from services.worker.engines.triton.engine import TritonEngine
from services.worker.engines.triton.prompts import Prompts
from services.worker.ports import About, Rendered, Sampling, Work
from tests.unit.worker.collector import Collector

ABOUT = About("triton", "m", max_running=1, context_tokens=512, tokenizer_fingerprint="text:m", text_only=True)
CONTRACT = Contract("m", "", frozenset(), frozenset({"text_output"}), batched=False, context_tokens=512)


class FullClient:
    """As much of the client as an answer needs."""

    def __init__(self) -> None:
        self.streams = 0

    @asynccontextmanager
    async def stream(self, *_: object) -> AsyncIterator[AsyncIterator[object]]:
        self.streams += 1

        async def refuses() -> AsyncIterator[object]:
            raise StreamError("Exceeds maximum queue size")
            yield

        yield refuses()


async def test_it_is_left_alone_for_a_while() -> None:
    client, sink = FullClient(), Collector()
    engine = TritonEngine(ABOUT, CONTRACT, client, Prompts(None, None), "", sink, max_waiting=8)  # type: ignore[arg-type] # as above
    for key in (1, 2, 3):
        engine.submit(Work(key, Rendered("hi"), Sampling()))
    assert {got.error.reason for got in await sink.ended(1, 2, 3)} == {"ENGINE_FULL"}
    assert client.streams == 1
    assert (engine.load().running, engine.load().waiting) == (1, 8)
    with pytest.raises(Exhausted, match="left alone") as caught:
        engine.submit(Work(4, Rendered("hi"), Sampling()))
    assert caught.value.retry_delay_s == pytest.approx(1.0, abs=0.5)
    await engine.close()
