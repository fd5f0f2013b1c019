"""Faults on demand over real sockets: set and read while a worker serves, refused where wrong, deadly alone."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from services.kit.errors import from_rpc
from services.kit.settings.engines.sim import SimSettings
from tests.rpc.worker.harness import ENDLESS, attached, running_worker
from weft.sim.v1 import sim_pb2 as pb
from weft.sim.v1 import sim_pb2_grpc


@asynccontextmanager
async def faults_of(address: str) -> AsyncIterator[sim_pb2_grpc.SimServiceStub]:
    """The service's stub, over a connection of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield sim_pb2_grpc.SimServiceStub(channel)


async def set_faults(stub: sim_pb2_grpc.SimServiceStub, **faults: object) -> pb.Faults:
    """Sets these and nothing else; what the worker says it has set."""
    answer = await stub.SetFaults(pb.SetFaultsRequest(faults=pb.Faults(**faults)))  # type: ignore[arg-type, misc]
    return answer.faults


async def test_each_fault_strikes_and_goes_again() -> None:
    async with (
        running_worker(sim=SimSettings(ttft_ms=2.0, itl_ms=1.0, max_tokens=10)) as worker,
        faults_of(worker.address) as stub,
        attached(worker.address) as link,
    ):
        told = await set_faults(stub, fail_share=1.0, seed=4)
        assert (told.fail_share, told.seed, told.slow_factor) == (1.0, 4, 1.0)
        await link.start(1)
        assert (await link.ended(1)).failure.code == 13
        await set_faults(stub, refuse_share=1.0)
        await link.start(2)
        assert (await link.ended(2)).failure.code == 8
        await set_faults(stub, garbage_share=1.0)
        await link.start(3)
        assert (await link.ended(3)).HasField("finish")
        await set_faults(stub)
        await link.start(4)
        await link.ended(4)
        assert link.answers[3].text != link.answers[4].text
        counts = await stub.GetFaults(pb.GetFaultsRequest())
        assert (counts.failed, counts.refused, counts.garbled, counts.hangs) == (1, 1, 1, 0)


async def test_it_hangs_at_once_and_wakes_when_told() -> None:
    async with running_worker() as worker, faults_of(worker.address) as stub, attached(worker.address) as link:
        await link.start(1, max_tokens=ENDLESS)
        await link.tokens(1, 3)
        assert (await set_faults(stub, hang=Duration(seconds=3600))).hang.seconds == 3600
        # Readings come, and the step counter stands still.
        seen = len(link.messages)
        await link.until(lambda link: len(link.messages) >= seen + 4)
        loads = [message.load for message in link.messages[-3:]]
        assert len({load.step_count for load in loads}) == 1
        assert all(load.running == 1 for load in loads)
        await set_faults(stub)
        await link.tokens(1, len(link.answers[1].ids) + 3)
        assert (await stub.GetFaults(pb.GetFaultsRequest())).hangs == 1


@pytest.mark.parametrize(
    ("faults", "field"),
    [
        pytest.param({"fail_share": 1.5}, "faults.fail_share", id="share"),
        pytest.param({"refuse_share": float("nan")}, "faults.refuse_share", id="nan"),
        pytest.param({"slow_factor": -1.0}, "faults.slow_factor", id="speed"),
        pytest.param({"hang": Duration(seconds=-1)}, "faults.hang", id="hang"),
    ],
)
async def test_wrong_faults_change_nothing(faults: dict[str, object], field: str) -> None:
    async with running_worker() as worker, faults_of(worker.address) as stub:
        await set_faults(stub, garbage_share=0.25)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await set_faults(stub, **faults)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert from_rpc(caught.value).field == field
        assert (await stub.GetFaults(pb.GetFaultsRequest())).faults.garbage_share == 0.25


async def test_no_other_engine_serves_them() -> None:
    async with running_worker(engine="reader") as worker, faults_of(worker.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await set_faults(stub)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_process_dies_at_once() -> None:
    values = {"ENGINE": "sim", "PORT": "0", "ADMIN_PORT": "0", "ROUTERS": "[]"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.worker"),
        env={**os.environ, **{f"WEFT_WORKER__{name}": value for name, value in values.items()}},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    address = json.loads(await process.stderr.readline())["address"]
    async with faults_of(address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await set_faults(stub, die_after_tokens=0)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
