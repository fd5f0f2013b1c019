"""SimService: faults set and read while a sim engine works. It is served beside the worker's own service."""

from typing import Any

import grpc.aio
import structlog

from services.worker.engines.sim.convert import from_faults, from_plan, to_plan
from services.worker.engines.sim.engine import SimEngine
from weft.sim.v1 import sim_pb2 as pb
from weft.sim.v1 import sim_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class SimServicer(sim_pb2_grpc.SimServiceServicer):
    """See the contract for what each fault does."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine
        self._log = structlog.get_logger("sim")

    async def SetFaults(self, request: pb.SetFaultsRequest, context: Context) -> pb.SetFaultsResponse:
        """From now on; what was set before is gone."""
        plan = to_plan(request.faults)
        self._log.warning("faults", plan=repr(plan))
        self._engine.set_faults(plan)
        return pb.SetFaultsResponse(faults=from_plan(plan))

    async def GetFaults(self, request: pb.GetFaultsRequest, context: Context) -> pb.GetFaultsResponse:
        """What is set, and what it did."""
        return from_faults(self._engine.faults)


def sim_servicer(engine: SimEngine) -> SimServicer:
    """For the server of a worker whose engine is `sim`, and for no other."""
    return SimServicer(engine)
