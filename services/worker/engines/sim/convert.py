"""Between SimService's messages and the sim engine's faults; refuses values that are out of range."""

import math

from services.kit.errors import InvalidArgument, duration_to_seconds, seconds_to_duration
from services.worker.engines.sim.faults import FaultPlan, Faults
from weft.sim.v1 import sim_pb2 as pb

_SLOWEST, _FASTEST = 1000.0, 0.01
_HANG_LIMIT_S = 86_400.0


def to_plan(wire: pb.Faults) -> FaultPlan:
    """Raises InvalidArgument with the field named."""
    hang_s = duration_to_seconds(wire.hang) if wire.HasField("hang") else 0.0
    if not 0.0 <= hang_s <= _HANG_LIMIT_S:
        raise _wrong("hang", f"hang is {hang_s:g} s and has to be from 0 to {_HANG_LIMIT_S:g}")
    slow_factor = wire.slow_factor or 1.0
    if not _FASTEST <= slow_factor <= _SLOWEST:
        raise _wrong("slow_factor", f"slow_factor is {slow_factor:g} and has to be from {_FASTEST:g} to {_SLOWEST:g}")
    hang_after_tokens = 0 if hang_s else None
    if wire.HasField("hang_after_tokens"):
        hang_after_tokens = wire.hang_after_tokens
    return FaultPlan(
        fail_share=_share(wire, "fail_share"),
        refuse_share=_share(wire, "refuse_share"),
        garbage_share=_share(wire, "garbage_share"),
        slow_factor=slow_factor,
        hang_after_tokens=hang_after_tokens,
        hang_s=hang_s,
        die_after_tokens=wire.die_after_tokens if wire.HasField("die_after_tokens") else None,
        seed=wire.seed,
    )


def _share(wire: pb.Faults, name: str) -> float:
    value = float(getattr(wire, name))
    if not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise _wrong(name, f"{name} is {value:g} and has to be from 0 to 1")
    return value


def _wrong(name: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="OUT_OF_RANGE", field=f"faults.{name}")


def from_plan(plan: FaultPlan) -> pb.Faults:
    """The plan as it was set."""
    at_once = plan.hang_after_tokens == 0 and plan.hang_s > 0
    return pb.Faults(
        fail_share=plan.fail_share,
        refuse_share=plan.refuse_share,
        garbage_share=plan.garbage_share,
        slow_factor=plan.slow_factor,
        hang=seconds_to_duration(plan.hang_s) if plan.hang_s else None,
        hang_after_tokens=None if at_once else plan.hang_after_tokens,
        die_after_tokens=plan.die_after_tokens,
        seed=plan.seed,
    )


def from_faults(faults: Faults) -> pb.GetFaultsResponse:
    """The plan, and how often it struck since the process started."""
    return pb.GetFaultsResponse(
        faults=from_plan(faults.plan),
        failed=faults.failed,
        refused=faults.refused,
        garbled=faults.garbled,
        hangs=faults.hangs,
    )
