"""What a call that Triton, or a gateway in front of it, ended means for the request."""

import grpc
import grpc.aio
import pytest
from grpc.aio import Metadata

from services.kit.errors import Exhausted, trailers
from services.worker.engines.triton.failures import from_status


@pytest.mark.parametrize(
    ("code", "delay_s", "reason"),
    [
        pytest.param(grpc.StatusCode.RESOURCE_EXHAUSTED, 4.0, "ENGINE_FULL", id="full"),
        pytest.param(grpc.StatusCode.RESOURCE_EXHAUSTED, None, "ENGINE_FULL", id="full-and-nothing-said"),
        pytest.param(grpc.StatusCode.UNAUTHENTICATED, None, "ENGINE_REFUSES_WORKER", id="no-key"),
    ],
)
def test_statuses(code: grpc.StatusCode, delay_s: float | None, reason: str) -> None:
    sent = trailers(Exhausted("no", retry_delay_s=delay_s)) if code is grpc.StatusCode.RESOURCE_EXHAUSTED else ()
    error = from_status(grpc.aio.AioRpcError(code, Metadata(), Metadata(*sent), "no"))
    assert (error.reason, error.retry_delay_s) == (reason, delay_s)
    assert "no" in error.message
