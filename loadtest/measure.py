"""One run of one system: the load, what its clients saw, and the CPU that each of its processes used meanwhile."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from loadtest.figures import AddedRun, RequestRun, StreamRun, quantile
from loadtest.loadgen import RAMP_S, REQUEST_CONNECTIONS, Loadgen
from loadtest.machine import Moment, between, tree_used
from loadtest.streams import Ask, Seen

PYTHON_REQUESTS = 1000

Opener = Callable[[str], AbstractAsyncContextManager[Ask]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way:
    """A way into a system: its client is the load generator, or Python through `opener`.

    `router`, `envoy` and `workers` are process ids; the first two are all that a token passes before its worker.
    """

    name: str
    target: str
    router: Sequence[int]
    envoy: Sequence[int]
    workers: Sequence[int]
    client: Opener | Loadgen

    @property
    def client_name(self) -> str:
        """What stands in tables."""
        return "C" if isinstance(self.client, Loadgen) else "Py"


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of each part, and what the machine did meanwhile."""

    router_s: float
    envoy_s: float
    workers_s: float
    client_s: float
    elapsed_s: float
    machine_share: float
    other_cores: float

    def us_each(self, count: int) -> dict[str, float]:
        """The systems' columns of a run, for each of `count`."""
        each = 1e6 / max(1, count)
        return {
            "router_us": self.router_s * each,
            "envoy_us": self.envoy_s * each,
            "path_us": (self.router_s + self.envoy_s) * each,
            "workers_us": self.workers_s * each,
        }

    @property
    def machine(self) -> dict[str, float]:
        """The machine's columns of a run."""
        return {"machine_share": self.machine_share, "other_cores": self.other_cores}


def metered(way: Way, work: Callable[[], T]) -> tuple[T, Spent]:
    """Does the work and tells what it cost each process of the way."""
    parts = (way.router, way.envoy, way.workers)
    moment, client_s = Moment.now(), _own_s()
    before = [tree_used(pids) for pids in parts]
    started_s = time.perf_counter()
    got = work()
    elapsed_s = time.perf_counter() - started_s
    router_s, envoy_s, workers_s = (between(was, tree_used(pids)) for was, pids in zip(before, parts, strict=True))
    client_s, after = _own_s() - client_s, Moment.now()
    share, others = after.share_since(moment), after.others_since(moment)
    spent = Spent(router_s, envoy_s, workers_s, client_s, elapsed_s, share, others)
    return got, spent


def _own_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_streams(way: Way, streams: int, tokens: int) -> StreamRun:
    """`streams` answers of `tokens` tokens, their starts spread over RAMP_S."""
    if isinstance(way.client, Loadgen):
        loadgen = way.client
        said, spent = metered(way, lambda: loadgen.streams(way.target, streams, tokens))
        return from_loadgen(way, streams, tokens, said, spent)
    opener = way.client
    seen, spent = metered(way, lambda: asyncio.run(_ask_all(opener, way.target, streams, tokens)))
    return from_seen(way, streams, tokens, seen, spent)


def from_loadgen(way: Way, streams: int, tokens: int, said: dict[str, Any], spent: Spent) -> StreamRun:
    """What the load generator said, as a run. A read stands for a chunk; it sees no indexes."""
    got = said["tokens"]
    return StreamRun(
        path=way.name,
        client=way.client_name,
        streams=streams,
        tokens=got,
        lost=max(0, streams * tokens - got),
        wrong=max(0, got - streams * tokens),
        failed=streams - said["ok"],
        errors=said["errors"],
        chunks_per_token=said["reads"] / max(1, got),
        tokens_per_s=said["tps"],
        **spent.us_each(got),
        client_us=said["loadgen_cpu"] / max(1, got) * 1e6,
        ttft_p50_ms=said["ttft"]["p50"],
        ttft_p99_ms=said["ttft"]["p99"],
        itl_p50_ms=said["itl"]["p50"],
        itl_p99_ms=said["itl"]["p99"],
        itl_max_ms=said["itl"]["max"],
        **spent.machine,
    )


def from_seen(way: Way, streams: int, tokens: int, seen: Sequence[Seen], spent: Spent) -> StreamRun:
    """What Python's client saw, as a run."""
    got = sum(one.tokens for one in seen)
    gaps_s = sorted(gap_s for one in seen for gap_s in one.gaps_s)
    ttfts_s = [one.ttft_s for one in seen if one.tokens]
    return StreamRun(
        path=way.name,
        client=way.client_name,
        streams=streams,
        tokens=got,
        lost=sum(max(0, tokens - one.tokens) for one in seen),
        wrong=sum(one.wrong for one in seen),
        failed=sum(bool(one.failed) or one.tokens != tokens for one in seen),
        errors=Counter(one.failed for one in seen if one.failed),
        chunks_per_token=sum(one.chunks for one in seen) / max(1, got),
        tokens_per_s=got / spent.elapsed_s,
        **spent.us_each(got),
        client_us=spent.client_s / max(1, got) * 1e6,
        ttft_p50_ms=quantile(ttfts_s, 0.5) * 1e3,
        ttft_p99_ms=quantile(ttfts_s, 0.99) * 1e3,
        itl_p50_ms=quantile(gaps_s, 0.5) * 1e3,
        itl_p99_ms=quantile(gaps_s, 0.99) * 1e3,
        itl_max_ms=gaps_s[-1] * 1e3 if gaps_s else 0.0,
        **spent.machine,
    )


async def _ask_all(opener: Opener, target: str, streams: int, tokens: int) -> list[Seen]:
    async with opener(target) as ask:

        async def one(number: int) -> Seen:
            await asyncio.sleep(number * RAMP_S / streams)
            return await ask(f"question {number}", tokens)

        return await asyncio.gather(*(one(number) for number in range(streams)))


def run_requests(way: Way) -> RequestRun:
    """Short requests over REQUEST_CONNECTIONS, each with the next one as soon as it is answered."""
    if isinstance(way.client, Loadgen):
        loadgen = way.client
        said, spent = metered(way, lambda: loadgen.requests(way.target))
        done, errors, e2e = said["requests"], said["errors"], said["e2e"]
        failed, p50_ms, p99_ms = done - said["ok"], e2e["p50"], e2e["p99"]
    else:
        opener = way.client
        (times_s, errors), spent = metered(way, lambda: asyncio.run(_ask_in_turn(opener, way.target)))
        failed, done = sum(errors.values()), len(times_s)
        p50_ms, p99_ms = quantile(times_s, 0.5) * 1e3, quantile(times_s, 0.99) * 1e3
    return RequestRun(
        path=way.name,
        client=way.client_name,
        requests=done,
        failed=failed,
        errors=errors,
        per_s=(done - failed) / spent.elapsed_s,
        **spent.us_each(done),
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        **spent.machine,
    )


async def _ask_in_turn(opener: Opener, target: str) -> tuple[list[float], Counter[str]]:
    times_s: list[float] = []
    errors: Counter[str] = Counter()
    left = iter(range(PYTHON_REQUESTS))

    async def connection(ask: Ask) -> None:
        for number in left:
            started_s = time.perf_counter()
            seen = await ask(f"question {number}", 1)
            times_s.append(time.perf_counter() - started_s)
            if seen.failed or seen.tokens != 1:
                errors[seen.failed or "NO_TOKEN"] += 1

    async with opener(target) as ask:
        await asyncio.gather(*(connection(ask) for _ in range(REQUEST_CONNECTIONS)))
    return times_s, errors


def run_added(way: Way, reference: str, pairs: int) -> AddedRun:
    """What the way adds to the first token of the worker at `reference`. The load generator has to be its client."""
    assert isinstance(way.client, Loadgen), way.client_name
    loadgen = way.client
    (added, failed), spent = metered(way, lambda: loadgen.pairs(reference, way.target, pairs))
    return AddedRun(way.name, len(added), failed, quantile(added, 0.5), quantile(added, 0.9), **spent.machine)


async def ttft_in_turn(
    ways: Sequence[Way], answers: int, warm_up: int, tick: Callable[[], None]
) -> dict[str, list[float]]:
    """TTFT in ms at one stream; the ways take turns, so that a slow moment of the machine hits all alike."""
    times: dict[str, list[float]] = {}
    for number in range(answers + warm_up):
        for way in ways:
            assert not isinstance(way.client, Loadgen), way.name
            async with way.client(way.target) as ask:
                await ask("warm the connection", 1)
                seen = await ask(f"question {number}", 1)
            if number >= warm_up:
                times.setdefault(way.name, []).append(seen.ttft_s * 1e3)
        tick()
    return times
