"""Measures the generator itself against answers at an exact pace: what it costs, and what it adds to its figures."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvloop

from loadtest.load.client import Target
from loadtest.load.clients import open_client
from loadtest.load.collect import Collector, Objectives
from loadtest.load.record import Request
from loadtest.load.runner import Clock, Ran, Runner

RAMP_S = 2.0
STOP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """One run: gaps in ms as they were made and as they were seen, and the generator's CPU."""

    transport: str
    streams: int
    tokens: int
    failed: int
    made_p50_ms: float
    made_p99_ms: float
    seen_p50_ms: float
    seen_p99_ms: float
    us_per_token: float
    core_share: float
    loop_late_p99_ms: float
    emitter_us_per_token: float

    @property
    def added_p99_ms(self) -> float:
        """What the generator puts on the 99th percentile of ITL."""
        return self.seen_p99_ms - self.made_p99_ms


class EmitterFailed(RuntimeError):
    """The emitter did not start, or said nothing at its end."""


@contextmanager
def emitter(gap_ms: float) -> "Iterator[tuple[dict[str, int], dict[str, Any]]]":
    """Runs an emitter: its ports, and a dictionary that holds what it did once the context is left."""
    command = [sys.executable, "-m", "loadtest.load.emitter", "--gap-ms", str(gap_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said: dict[str, Any] = {}
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise EmitterFailed(f"the emitter did not start: {' '.join(command)}")
        yield json.loads(line), said
        process.terminate()
        out, _ = process.communicate(timeout=STOP_LIMIT_S)
        said.update(json.loads(out))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def calibrate(transport: str, streams: int, tokens: int, gap_ms: float = 20.0) -> Calibration:
    """So many answers at once on one core, their starts spread over RAMP_S."""
    with emitter(gap_ms) as (ports, said):
        target = Target("127.0.0.1", ports["grpc" if transport == "grpc" else "http"], "emitter")
        collector = Collector(Objectives())
        ran = uvloop.run(_run(target, transport, collector, streams, tokens))
    whole = collector.whole
    return Calibration(
        transport=transport,
        streams=streams,
        tokens=whole.tokens,
        failed=whole.failed + (whole.tokens != streams * tokens),
        made_p50_ms=said["gaps"]["p50_ms"],
        made_p99_ms=said["gaps"]["p99_ms"],
        seen_p50_ms=whole.itl.quantile_s(50.0) * 1e3,
        seen_p99_ms=whole.itl.quantile_s(99.0) * 1e3,
        us_per_token=ran.cost.cpu_s / max(1, whole.tokens) * 1e6,
        core_share=ran.cost.core_share,
        loop_late_p99_ms=ran.cost.loop_late.quantile_s(99.0) * 1e3,
        emitter_us_per_token=said["cpu_s"] / max(1, said["tokens"]) * 1e6,
    )


async def _run(target: Target, transport: str, collector: Collector, streams: int, tokens: int) -> Ran:
    clock = Clock()
    client = open_client(transport, target, clock)
    await client.open()
    try:
        requests = (
            Request(number, number * RAMP_S / streams, (("user", "words"),), tokens) for number in range(streams)
        )
        return await Runner(client, collector, clock, drain_s=120.0).open_loop(requests)
    finally:
        await client.close()
        await asyncio.sleep(0)
