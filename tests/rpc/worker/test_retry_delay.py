"""What an upstream says of when to ask it again reaches whoever asked the worker, on the link and on a call."""

import grpc
import grpc.aio
import pytest

from services.kit.errors import duration_to_seconds, from_rpc
from services.kit.settings.engines.openai import OpenAISettings
from tests.fakes.openai_server import Answer, fake_upstream, json_answer
from tests.rpc.worker.harness import attached, running_worker
from tests.rpc.worker.test_generate import ask, events_of


@pytest.mark.parametrize(
    ("answer", "code", "delay_s"),
    [
        pytest.param(json_answer({"error": "no"}, 429, retry_after="7"), "RESOURCE_EXHAUSTED", 7.0, id="full"),
        pytest.param(json_answer({"error": "no"}, 503, retry_after="7"), "UNAVAILABLE", 7.0, id="away"),
        pytest.param(json_answer({"error": "no"}, 503), "UNAVAILABLE", None, id="nothing-said"),
    ],
)
async def test_retry_after(answer: Answer, code: str, delay_s: float | None) -> None:
    async with fake_upstream() as upstream:
        upstream.answers["/v1/completions"] = answer
        openai = OpenAISettings(base_url=upstream.url)
        async with running_worker(engine="openai", openai=openai, context_tokens=4096) as worker:
            async with attached(worker.address) as link:
                await link.start(1)
                failure = (await link.ended(1)).failure
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await events_of(worker.address, ask())
    assert failure.HasField("retry_delay") is (delay_s is not None)
    assert caught.value.code().name == code
    # A full upstream is left alone by then, for what is left of the time.
    told_s = from_rpc(caught.value).retry_delay_s
    for found_s in (duration_to_seconds(failure.retry_delay), told_s or 0.0):
        assert found_s == pytest.approx(delay_s or 0.0, abs=4.0 if delay_s else 0.0)
