"""What a worker's server lists besides its own service: faults on demand with the sim engine, and with no other."""

import grpc.aio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.fakes.engine import FakeEngine
from tests.rpc.worker.harness import running_worker

WORKER, SIM = "weft.worker.v1.WorkerService", "weft.sim.v1.SimService"


async def reflected(address: str) -> set[str]:
    """Names of the services that reflection lists, ours alone."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    return {service.name for service in answer.list_services_response.service if service.name.startswith("weft.")}


async def test_faults_are_listed_with_the_sim_engine_alone() -> None:
    async with running_worker() as sim, running_worker(FakeEngine().open()) as other:
        assert await reflected(sim.address) == {WORKER, SIM}
        assert await reflected(other.address) == {WORKER}
