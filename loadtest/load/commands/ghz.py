"""`weft load ghz`: the mesh as ghz sees it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from loadtest.load import ghz as tool
from loadtest.load.commands import options
from loadtest.load.ghz import Access, Calls, GhzScenario
from loadtest.load.summary import number
from services.cli import consoles
from services.cli.problem import Problem, UsageProblem

USUAL = ("chat", "chat-one-token", "chat-first-token", "embed")

Names = Annotated[list[str] | None, typer.Argument(help="Scenarios, by name.", show_default=" ".join(USUAL))]
List = Annotated[bool, typer.Option("--list", help="Show the scenarios and exit.")]
File = Annotated[Path, typer.Option("--scenarios", help="A file of scenarios.", show_default="the built-in ones")]
Concurrency = Annotated[int, typer.Option("-c", "--concurrency", min=1, help="Calls at once.")]
Total = Annotated[int, typer.Option("-n", "--total", min=1, help="Calls of each scenario.")]
Rate = Annotated[int, typer.Option(min=0, help="Calls a second, whatever the answers do; 0: as fast as they end.")]
CertFile = Annotated[str, typer.Option(help="Present this client certificate.")]
KeyFile = Annotated[str, typer.Option(help="Its key.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]


def ghz(
    names: Names = None,
    show: List = False,
    file: File = tool.SCENARIOS,
    address: options.Address = None,
    start: options.Start = "",
    concurrency: Concurrency = 20,
    total: Total = 200,
    rate: Rate = 0,
    header: options.Header = None,
    key_env: options.KeyEnv = "",
    tls: options.Tls = False,
    ca_file: options.CaFile = "",
    cert_file: CertFile = "",
    key_file: KeyFile = "",
    as_json: Json = False,
) -> None:
    """Call the mesh with ghz, and show its latencies with the TTFT that it can measure.

    ghz times whole calls and looks into no message. So TTFT comes from answers of one token, from calls that are left
    at their first token, and, of a sample, from the timing that each answer carries.

    Example: weft load ghz chat chat-first-token -c 50 -n 1000
    """
    try:
        known = tool.load(file)
    except tool.WrongScenario as error:
        raise UsageProblem(str(error)) from error
    if show:
        consoles.out().print(_listing(known))
        return
    wanted = names or [name for name in USUAL if name in known] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise UsageProblem(f"no scenario is called {', '.join(unknown)}: there are {', '.join(known)}")
    binary = tool.find_ghz()
    if binary is None:
        raise Problem(tool.HOW_TO_GET)
    found: dict[str, Calls] = {}
    with options.aimed(
        address,
        start,
        model="",
        headers=header or (),
        key_env=key_env,
        tls=tls,
        ca_file=ca_file,
        timeout_s=1.0,
    ) as aim:
        access = Access(dict(aim.target.headers), tls, ca_file, cert_file, key_file)
        for name in wanted:
            with consoles.notes().status(f"{name}: {total} calls, {concurrency} at once"):
                try:
                    calls = tool.run(binary, known[name], aim.target.authority, concurrency, total, rate, access)
                except tool.GhzFailed as error:
                    raise Problem(f"{name}: {error}") from error
            found[name] = calls
    if as_json:
        typer.echo(json.dumps({name: asdict(calls) for name, calls in found.items()}))
    else:
        _show(found, known, concurrency)
    if failed := {name: dict(calls.failed) for name, calls in found.items() if calls.failed}:
        words = "; ".join(
            f"{name}: {status} {count}" for name, all_ in failed.items() for status, count in all_.items()
        )
        raise Problem(f"calls failed: {words}")


def _listing(known: Mapping[str, GhzScenario]) -> Table:
    table = Table(title="scenarios", title_justify="left")
    table.add_column("name")
    table.add_column("what")
    for scenario in known.values():
        table.add_row(scenario.name, scenario.about)
    return table


def _show(found: Mapping[str, Calls], known: Mapping[str, GhzScenario], concurrency: int) -> None:
    table = Table(title=f"as ghz sees it, {concurrency} calls at once; times in ms", title_justify="left")
    for column in (
        "scenario",
        "calls",
        "failed",
        "calls/s",
        "average",
        *(f"p{share}" for share in tool.SHARES),
        "TTFT",
    ):
        table.add_column(column, justify="left" if column == "scenario" else "right")
    for name, calls in found.items():
        shares = [number(calls.latency_ms[s]) if s in calls.latency_ms else "–" for s in tool.SHARES]
        carried = calls.carried_p50_ms
        ttft = "the call" if known[name].ttft else "" if carried is None else f"{number(carried)} carried"
        cells = (str(calls.count), str(sum(calls.failed.values())), f"{calls.per_s:.1f}", number(calls.average_ms))
        table.add_row(name, *cells, *shares, ttft)
    console = consoles.out()
    console.print(table)
    console.print(
        "carried: the median TTFT that the router measured itself and wrote into a sample of the answers", style="dim"
    )
