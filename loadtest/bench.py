"""`python -m loadtest.bench`: added TTFT, CPU per token and idle memory of a mesh on this machine, as medians."""

import asyncio
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtest.mesh import Mesh, mesh
from loadtest.streams import Ask, Seen, openai_sse, router_grpc, worker_grpc

ITL_MS = 20.0
WARM_UP = 5

console = Console()


@dataclass(frozen=True, slots=True)
class Way:
    """A way into the mesh."""

    name: str
    address: str
    opener: Any


def ways(found: Mesh) -> list[Way]:
    """From the worker outwards."""
    return [
        Way("worker, gRPC", found.addresses["worker-0"], worker_grpc),
        Way("router, gRPC", found.addresses["router"], router_grpc),
        Way("Envoy, gRPC", found.target, router_grpc),
        Way("Envoy, OpenAI SSE", found.target, openai_sse),
    ]


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def added_ttft(found: Mesh, repeats: int) -> dict[str, list[float]]:
    """TTFT in ms at one stream; the ways take turns, so that a slow moment of the machine hits all alike."""
    times: dict[str, list[float]] = {}
    for repeat in track(range(repeats + WARM_UP), "added TTFT", console=console, transient=True):
        for way in ways(found):
            async with way.opener(way.address) as ask:
                await ask("warm the connection", 1)
                seen = await ask(f"question {repeat}", 1)
            if repeat >= WARM_UP:
                times.setdefault(way.name, []).append(seen.ttft_s * 1e3)
    return times


async def cpu_per_token(found: Mesh, way: Way, streams: int, tokens: int) -> dict[str, Any]:
    """`streams` answers at once, their starts spread over half a second; CPU in µs a token."""

    async def one(ask: Ask, number: int) -> Seen:
        await asyncio.sleep(number * 0.5 / streams)
        return await ask(f"question {number}", tokens)

    names = ["router", "envoy", "worker-0", "worker-1"]
    async with way.opener(way.address) as ask:
        before = {name: found.cpu_s(name) for name in names}
        seen = await asyncio.gather(*(one(ask, number) for number in range(streams)))
        used = {name: found.cpu_s(name) - before[name] for name in names}
    total = sum(s.tokens for s in seen)
    gaps = [gap for s in seen for gap in s.gaps_s]
    return {
        "path": way.name,
        "streams": streams,
        "tokens": total,
        "lost": streams * tokens - total,
        "wrong": sum(s.wrong for s in seen),
        "failed": sum(bool(s.failed) for s in seen),
        "chunks_per_token": sum(s.chunks for s in seen) / max(1, total),
        "router_us": used["router"] / total * 1e6,
        "envoy_us": used["envoy"] / total * 1e6,
        "workers_us": (used["worker-0"] + used["worker-1"]) / total * 1e6,
        "ttft_p50_ms": quantile([s.ttft_s for s in seen], 0.5) * 1e3,
        "ttft_p99_ms": quantile([s.ttft_s for s in seen], 0.99) * 1e3,
        "itl_p50_ms": quantile(gaps, 0.5) * 1e3,
        "itl_p99_ms": quantile(gaps, 0.99) * 1e3,
    }


def show_ttft(times: dict[str, list[float]]) -> None:
    """Each way beside the worker alone."""
    table = Table(title="TTFT at one stream, sim engine with no delay (ms)")
    for column in ("way in", "p50", "p99", "added p50"):
        table.add_column(column, justify="left" if column == "way in" else "right")
    base = statistics.median(next(iter(times.values())))
    for name, values in times.items():
        middle = statistics.median(values)
        table.add_row(name, f"{middle:.2f}", f"{quantile(values, 0.99):.2f}", f"{middle - base:+.2f}")
    console.print(table)


def show_runs(runs: list[dict[str, Any]]) -> None:
    """Medians over the runs of each way and width: what it cost, and what clients saw."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["path"], run["streams"]), []).append(run)
    cost = ["router_us", "envoy_us", "workers_us", "chunks_per_token"]
    seen = ["ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p99_ms"]
    show_medians(groups, "CPU a token (µs), medians", cost)
    show_medians(groups, f"{ITL_MS:g} ms between tokens, as clients saw it (ms), medians", seen)


def show_medians(groups: dict[tuple[str, int], list[dict[str, Any]]], title: str, columns: list[str]) -> None:
    """One row for each way and width."""
    table = Table(title=title)
    for column in ("way in", "streams", "runs", "lost", *columns):
        name = column.removesuffix("_ms").removesuffix("_us").replace("_per_", "/").replace("_", " ")
        table.add_column(name, justify="left" if column == "way in" else "right")
    for (name, streams), group in groups.items():
        lost = sum(run["lost"] + run["wrong"] + run["failed"] for run in group)
        middles = [f"{statistics.median(run[column] for run in group):.1f}" for column in columns]
        table.add_row(name, str(streams), str(len(group)), str(lost), *middles)
    console.print(table)


def show_idle(found: Mesh) -> dict[str, float]:
    """Resident memory of each process, nothing under way."""
    idle = {name: found.memory_bytes(name) / 2**20 for name in found.pids if name != "up"}
    table = Table(title=f"Idle memory (MiB); ready after {found.ready_s:.1f} s")
    table.add_column("process")
    table.add_column("resident", justify="right")
    for name, size in idle.items():
        table.add_row(name, f"{size:.0f}")
    table.add_row("all", f"{sum(idle.values()):.0f}", style="bold")
    console.print(table)
    return idle


def main(
    streams: Annotated[list[int] | None, typer.Option(help="Answers at once; may be given several times.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 200,
    repeats: Annotated[int, typer.Option(help="Runs of each scenario.")] = 3,
    ttft_repeats: Annotated[int, typer.Option(help="Answers of each way at one stream.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Write every number to this JSON file.")] = None,
) -> None:
    """Measures a mesh of two `sim` workers on this machine.

    Example: python -m loadtest.bench --streams 10 --streams 100 --repeats 3
    """
    numbers: dict[str, Any] = {}
    with mesh("--engine", "sim", "--sim-ttft-ms", "0", "--sim-itl-ms", "0") as found:
        numbers["idle_mib"] = show_idle(found)
        numbers["ready_s"] = found.ready_s
        numbers["ttft_ms"] = asyncio.run(added_ttft(found, ttft_repeats))
        show_ttft(numbers["ttft_ms"])
    wide = {"WEFT_WORKER__MAX_RUNNING": "4096"}
    with mesh("--engine", "sim", "--sim-ttft-ms", "0", "--sim-itl-ms", str(ITL_MS), environment=wide) as found:
        runs = [
            asyncio.run(cpu_per_token(found, way, width, tokens))
            for width in streams or [100]
            for _ in track(range(repeats), f"{width} streams", console=console, transient=True)
            for way in ways(found)[1:]
        ]
    show_runs(runs)
    numbers["runs"] = runs
    if out is not None:
        out.write_text(json.dumps(numbers, indent=1))
        console.print(f"every number: {out}")


if __name__ == "__main__":
    typer.run(main)
