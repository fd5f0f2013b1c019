"""`python -m loadtest.ghz`: whole StreamChat calls under ghz, as an outside client makes them. It looks at no token.

ghz times a call from its start to the end of its stream, so its latencies hold the whole answer; an answer that
failed after it began ends with OK and a `failed` event, which ghz does not see. `loadtest.bench` looks at every token.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from loadtest.mesh import mesh
from loadtest.report import console as new_console

ROOT = Path(__file__).resolve().parents[1]
CALL = "weft.router.v1.RouterService/StreamChat"
RUN_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Calls:
    """What ghz reports: whole calls, latencies in ms by share, and answers that did not end with OK, by status."""

    count: int
    per_s: float
    latency_ms: Mapping[int, float]
    failed: Mapping[str, int]


def find_ghz() -> str | None:
    """ghz's path: in .tools/bin, on PATH or where `go install` puts it."""
    places = [ROOT / ".tools" / "bin", Path.home() / "go" / "bin"]
    return shutil.which("ghz", path=str(places[0])) or shutil.which("ghz") or shutil.which("ghz", path=str(places[1]))


def read(report: Mapping[str, Any]) -> Calls:
    """ghz's JSON report; its times are in ns. Shares that it leaves out, having too few calls, are missing."""
    spread = report.get("latencyDistribution") or []
    statuses: Mapping[str, int] = report.get("statusCodeDistribution") or {}
    return Calls(
        count=report["count"],
        per_s=report["rps"],
        latency_ms={entry["percentage"]: entry["latency"] / 1e6 for entry in spread},
        failed={status: count for status, count in statuses.items() if status != "OK"},
    )


def call(ghz: str, address: str, concurrency: int, total: int, tokens: int) -> Calls:
    """Runs ghz against a router or an Envoy. Raises RuntimeError with its words when it reports nothing."""
    request = {"messages": [{"role": "ROLE_USER", "content": "question {{.RequestNumber}}"}]}
    body = json.dumps(request | {"sampling": {"max_tokens": tokens}})
    options = ["--insecure", "--protoset", str(ROOT / "gen" / "weft.binpb"), "--call", CALL, "-d", body, "-O", "json"]
    command = [ghz, *options, "-c", str(concurrency), "-n", str(total), "-t", "0", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    try:
        return read(json.loads(done.stdout))
    except json.JSONDecodeError as error:
        raise RuntimeError(f"ghz reported nothing: {(done.stderr or done.stdout).strip()}") from error


def main(
    address: Annotated[str, typer.Option(help="host:port; empty: a mesh of two `sim` workers, through Envoy.")] = "",
    concurrency: Annotated[int, typer.Option("-c", min=1, help="Calls at once.")] = 50,
    total: Annotated[int, typer.Option("-n", min=1, help="Calls in all.")] = 500,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 50,
) -> None:
    """Calls StreamChat with ghz and prints how long whole answers took.

    Example: python -m loadtest.ghz -c 100 -n 1000
    """
    ghz = find_ghz()
    if ghz is None:
        sys.exit("ghz is not installed: `make tools` builds it where Go is, and https://ghz.sh has binaries")
    console = new_console()
    started = nullcontext(None) if address else mesh("--engine", "sim", "--sim-ttft-ms", "0", "--sim-itl-ms", "20")
    with started as found, console.status(f"{total} calls, {concurrency} at once"):
        calls = call(ghz, address or (found.target if found else ""), concurrency, total, tokens)
    table = Table(title=f"StreamChat: whole calls of {tokens} tokens, {concurrency} at once", title_justify="left")
    for name in ("calls", "failed", "calls/s", "p50 ms", "p90 ms", "p99 ms"):
        table.add_column(name, justify="right")
    shares = [f"{calls.latency_ms[share]:.1f}" if share in calls.latency_ms else "–" for share in (50, 90, 99)]
    table.add_row(str(calls.count), str(sum(calls.failed.values())), f"{calls.per_s:.1f}", *shares)
    console.print(table)
    for status, count in calls.failed.items():
        console.print(f"{count} ended with {status}")
    console.print(
        "ghz times whole calls: the first token and all that follow. loadtest.bench times tokens.", style="dim"
    )
    if calls.failed:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
