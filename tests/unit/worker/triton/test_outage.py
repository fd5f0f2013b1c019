"""A Triton that is late or away, with a model that died meanwhile: its word that it is ready is not enough."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from grpc.aio import Metadata

from services.worker.engines.triton.client import StreamError
from services.worker.engines.triton.engine import TritonEngine
from services.worker.engines.triton.prompts import Prompts
from services.worker.ports import Rendered, Sampling, Work
from tests.unit.worker.collector import Collector
from tests.unit.worker.triton.test_full import ABOUT, CONTRACT

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def _ended(code: grpc.StatusCode, details: bytes = b"") -> grpc.aio.AioRpcError:
    """A call that ended with a status, and with details of it where there are any."""
    sent = (("grpc-status-details-bin", details),) if details else ()
    return grpc.aio.AioRpcError(code, Metadata(), Metadata(*sent), "no")


class LateClient:
    """As much of the client as asking needs; `said` is each stream's error, or none for one that answers.

    `failed` ends the call of a stream itself, and `unknown` is raised to whoever asks whether the model is ready.
    """

    url = "triton:8001"

    def __init__(self) -> None:
        self.late = False
        self.said = ""
        self.failed: Exception | None = None
        self.unknown: Exception | None = None

    async def unready(self, model: str, version: str) -> str:
        if self.unknown is not None:
            raise self.unknown
        if self.late:
            raise TimeoutError(f"Triton at {self.url} does not answer")
        return ""

    @asynccontextmanager
    async def stream(self, *_: object) -> AsyncIterator[AsyncIterator[object]]:
        async def answers() -> AsyncIterator[object]:
            if self.failed is not None:
                raise self.failed
            if self.said:
                raise StreamError(self.said)
            yield object()

        yield answers()


async def test_a_model_that_died_during_an_outage_stays_broken() -> None:
    client, sink = LateClient(), Collector()
    engine = TritonEngine(ABOUT, CONTRACT, client, Prompts(None, None), "", sink)  # type: ignore[arg-type] # as above
    client.late = True
    await engine.ask()
    assert engine.load().broken == "Triton at triton:8001 does not answer"
    client.late, client.said = False, "Stub process 'm_0_0' is not healthy."
    await engine.ask()
    assert "has died" in engine.load().broken
    client.said = ""
    await engine.ask()
    assert not engine.load().broken
    await engine.close()


@pytest.mark.parametrize(
    "failed", [pytest.param(TimeoutError(), id="late"), pytest.param(_ended(UNAVAILABLE), id="call-ended")]
)
async def test_a_probe_without_an_answer_heals_nothing(failed: Exception) -> None:
    client, sink = LateClient(), Collector()
    engine = TritonEngine(ABOUT, CONTRACT, client, Prompts(None, None), "", sink)  # type: ignore[arg-type] # as above
    client.late = True
    await engine.ask()
    client.late, client.failed = False, failed
    await engine.ask()
    assert engine.load().broken == "Triton at triton:8001 does not answer"
    client.failed = None
    await engine.ask()
    assert not engine.load().broken
    await engine.close()


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        pytest.param(_ended(grpc.StatusCode.RESOURCE_EXHAUSTED, b"\xff"), "ENGINE_FULL", id="details-are-garbage"),
        pytest.param(_ended(UNAVAILABLE), "INTERNAL", id="asking-fails-too"),
    ],
)
async def test_a_failure_while_a_failure_is_handled_leaves_no_request_open(failed: Exception, reason: str) -> None:
    client, sink = LateClient(), Collector()
    engine = TritonEngine(ABOUT, CONTRACT, client, Prompts(None, None), "", sink)  # type: ignore[arg-type] # as above
    client.failed, client.unknown = failed, RuntimeError("unheard of")
    engine.submit(Work(1, Rendered("hi"), Sampling()))
    assert [got.error.reason for got in await sink.ended(1)] == [reason]
    assert repr(engine) == "TritonEngine(m running=0 waiting=0)"
    await engine.close()
