"""Clients that misbehave: some leave, one takes nothing, and the others must not notice."""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import grpc.aio

from tests.chaos.client import Crowd, Heard, listen, prompts, request, through
from tests.chaos.mesh import Mesh, mesh, scrape, sim
from weft.router.v1.router_pb2_grpc import RouterServiceStub

SEED = 20_261
LEAVERS = 200
LEAVE_WITHIN_S = 1.5
WINDOW_BYTES = 4096
"""What the client that takes nothing lets into its own buffers."""
BUFFER_BYTES = 16_384
FLOOD_TOKENS = 30_000
MEMORY_LIMIT_BYTES = 64 * 2**20
STALL_LIMIT_S = 2.0
"""No answer may be silent for so long beside it: far above what is measured, and below what a held-up router shows."""


async def clients_that_leave(folder: Path) -> dict[str, float]:
    """200 clients cancel at random moments, in the queue, in prefill or under way: nothing is left of them."""
    chance = random.Random(SEED)
    # Less than half of them fit the workers at once, so that many wait.
    plans = [sim(worker_id, itl_ms=50, max_running=40) for worker_id in ("w1", "w2")]
    async with mesh(folder, *plans, notes=[f"seed {SEED}"]) as found:
        alone_ms = [await _cancel_alone(found, number) for number in range(5)]
        await asyncio.gather(
            *(_leave(found.stub, prompt, chance.uniform(0, LEAVE_WITHIN_S)) for prompt in prompts(LEAVERS, SEED))
        )
        left_s = time.monotonic()
        await found.engine_idle("w1", "w2")
        idle_s = time.monotonic()
        await found.idle()
        await found.no_calls()
        async with Crowd(through(found.stub), prompts(16), 5) as crowd:
            await crowd.complete()
    return {
        "cancel_to_idle_ms": max(alone_ms),
        "cancel_to_idle_median_ms": statistics.median(alone_ms),
        "last_of_200_to_idle_ms": 1e3 * (idle_s - left_s),
    }


async def _leave(stub: RouterServiceStub, prompt: str, after_s: float) -> None:
    """A client that goes away after this long, whatever it has by then."""
    heard = Heard(prompt)
    answer = asyncio.create_task(listen(stub, heard, 1000))
    _, under_way = await asyncio.wait([answer], timeout=after_s)
    assert under_way, f"over before its client left: {heard}"
    answer.cancel()
    await asyncio.wait([answer])


async def _cancel_alone(found: Mesh, number: int) -> float:
    """Milliseconds from a client's cancel to an idle engine, nothing else under way."""
    heard = Heard(f"lonely question {number}")
    answer = asyncio.create_task(listen(found.stub, heard, 1000))
    await heard.begun.wait()
    answer.cancel()
    cancelled_s = time.monotonic()
    await asyncio.gather(*(found.engine_idle(worker_id) for worker_id in found.workers))
    return 1e3 * (time.monotonic() - cancelled_s)


async def client_that_takes_nothing(folder: Path) -> dict[str, float]:
    """One client reads nothing of a fast and endless answer while 16 others stream: it is cut, they notice nothing."""
    tokens = 60
    limits = {"client_buffer_bytes": BUFFER_BYTES, "progress_every_s": 0.5}
    plans = [sim("w1"), sim("flood", ttft_ms=1, itl_ms=0.5, model_name="flood")]
    async with mesh(folder, *plans, router=limits) as found:
        before = await _stream(found, tokens)
        memory_bytes = found.router.memory_bytes()
        async with _small_window(found) as channel:
            began_s = time.monotonic()
            call = RouterServiceStub(channel).StreamChat(request("flood me", FLOOD_TOKENS, "flood"))
            await call.read()
            cut = asyncio.create_task(_cut_s(found))
            others = await _stream(found, tokens)
            cut_s = await cut
            await found.idle()
            await found.no_calls()
            call.cancel()
        produced = (await scrape(found.plans["flood"].admin_port))["weft_worker_tokens_total"]
        assert produced < FLOOD_TOKENS, "the answer was over before its client could be cut"
        grew_bytes = found.router.memory_bytes() - memory_bytes
        assert grew_bytes < MEMORY_LIMIT_BYTES
    assert max(heard.longest_gap_s for heard in others) < STALL_LIMIT_S
    return {
        "itl_p99_before_ms": _itl_p99_ms(before),
        "itl_p99_beside_ms": _itl_p99_ms(others),
        "cut_after_ms": 1e3 * (cut_s - began_s),
        "memory_mib": grew_bytes / 2**20,
    }


async def _cut_s(found: Mesh) -> float:
    """When the engine was told that nobody takes its answer."""
    await found.engine_idle("flood")
    return time.monotonic()


def _small_window(found: Mesh) -> grpc.aio.Channel:
    options = [
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.insecure_channel(f"127.0.0.1:{found.port}", options=options)


async def _stream(found: Mesh, tokens: int) -> Sequence[Heard]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen(found.stub, Heard(prompt), tokens, model="sim")) for prompt in prompts(16)]
    return [task.result().complete(tokens) for task in tasks]


def _itl_p99_ms(found: Sequence[Heard]) -> float:
    return 1e3 * statistics.quantiles([gap for heard in found for gap in heard.gaps_s], n=100)[98]
