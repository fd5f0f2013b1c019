"""`weft load ghz`: the mesh as ghz sees it."""

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from loadtest.load import ghz as tool
from loadtest.load import results
from loadtest.load.commands import options
from loadtest.load.ghz import Calls, GhzScenario
from loadtest.load.ghz_access import Access, WrongAccess
from loadtest.load.summary import number
from services.cli import consoles
from services.cli.problem import INTERRUPTED, Problem, UsageProblem

FILE = "ghz.json"
USUAL = ("chat", "chat-one-token", "chat-first-token", "embed")

_ADVICE = (
    ("connection refused", "start the mesh with `weft up`, or name it with --target"),
    ("no such host", "name it with --target"),
    ("signed by unknown authority", "name the CA of its certificate with --ca-file"),
    ("IP SANs", "name whom the certificate is for with --server-name"),
    ("certificate is valid for", "name whom the certificate is for with --server-name"),
    ("does not look like a TLS handshake", "the target speaks no TLS: leave the options for TLS out"),
    ("certificate required", "it wants a client certificate: --cert-file and --key-file"),
    ("Unauthenticated", "name the variable that holds a key with --key-env"),
)
_PLAIN_ADVICE = "perhaps it speaks TLS: --tls, or --ca-file"
_SECURE_ADVICE = "perhaps it wants a client certificate: --cert-file and --key-file"
_CLOSED = ("error reading server preface", "connection reset by peer", "broken pipe")

Names = Annotated[list[str] | None, typer.Argument(help="Scenarios, by name.", show_default=" ".join(USUAL))]
List = Annotated[bool, typer.Option("--list", help="Show the scenarios and exit.")]
File = Annotated[Path, typer.Option("--scenarios", help="A file of scenarios.", show_default="the built-in ones")]
Concurrency = Annotated[int, typer.Option("-c", "--concurrency", min=1, help="Calls at once.")]
Total = Annotated[int, typer.Option("-n", "--total", min=1, help="Calls of each scenario.")]
Rate = Annotated[int, typer.Option(min=0, help="Calls a second, whatever the answers do; 0: as fast as they end.")]
CertFile = Annotated[str, typer.Option(help="Use TLS and present this client certificate.")]
KeyFile = Annotated[str, typer.Option(help="Its key.")]
ServerName = Annotated[str, typer.Option(help="Use TLS; the name in the server's certificate, if not the target's.")]
SkipVerify = Annotated[bool, typer.Option("--skip-verify", help="Use TLS and believe any certificate.")]
Json = Annotated[bool, typer.Option("--json", help="Print ghz.json in place of tables.")]


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
    allow_plain_text: options.PlainText = False,
    cert_file: CertFile = "",
    key_file: KeyFile = "",
    server_name: ServerName = "",
    skip_verify: SkipVerify = False,
    out: options.Out = options.OUT,
    as_json: Json = False,
) -> None:
    """Call the mesh with ghz, and show its latencies with the TTFT that it can measure.

    ghz times whole calls and looks into no message. So TTFT comes from answers of one token, from calls that are left
    at their first token, and, of a sample, from the timing that each answer carries.

    Example: weft load ghz chat chat-first-token -c 50 -n 1000

    Example: weft load ghz embed --target api.example.com:443 --tls --key-env API_KEY
    """
    known = _scenarios(file)
    if show:
        consoles.out().print(_listing(known))
        return
    wanted = _wanted(names, known)
    access = _access(Access({}, tls, ca_file, cert_file, key_file, server_name, skip_verify))
    try:
        binary = tool.find_ghz()
        about = {"path": binary, "version": tool.version(binary)}
    except tool.GhzFailed as error:
        raise Problem(str(error)) from error
    folder = options.folder(out, "ghz")
    consoles.notes().print(f"ghz is {binary} ({about['version']})", style="dim", soft_wrap=True)
    began_s, found, problem, target, stopped = time.time(), dict[str, Calls](), "", "", False
    try:
        with (
            _stoppable(),
            options.aimed(
                address,
                start,
                model="",
                headers=header or (),
                key_env=key_env,
                tls=access.secure,
                ca_file=ca_file,
                allow_plain_text=allow_plain_text,
                timeout_s=1.0,
            ) as aim,
        ):
            access, target = replace(access, metadata=dict(aim.target.headers)), aim.target.authority
            for name in wanted:
                with consoles.notes().status(f"{name}: {total} calls, {concurrency} at once"):
                    try:
                        found[name] = tool.run(binary, known[name], target, concurrency, total, rate, access)
                    except tool.GhzFailed as error:
                        problem = f"{name}: {error}"
                        if error.calls:
                            found[name] = error.calls
                        break
                if stopped := found[name].interrupted:
                    break
    except KeyboardInterrupt:
        # Between two scenarios, or where ghz had nothing to report: those that had ended are kept.
        stopped = True
    if found:
        load = {"concurrency": concurrency, "total": total, "rate": rate}
        if not as_json:
            show_tables(found, known, concurrency)
        _leave(folder, _content(found, known, target, began_s, about | load), as_json)
    if problem:
        raise Problem(problem)
    if stopped:
        until_then = "the figures are of the calls until then" if found else "there are no figures yet"
        raise Problem(f"stopped: {until_then}", exit_code=INTERRUPTED)
    if words := "; ".join(_failures(found, target, secure=access.secure)):
        raise Problem(f"calls failed: {words}")


def _scenarios(file: Path) -> Mapping[str, GhzScenario]:
    try:
        return tool.load(file)
    except tool.WrongScenario as error:
        raise UsageProblem(str(error)) from error


def _wanted(names: Sequence[str] | None, known: Mapping[str, GhzScenario]) -> Sequence[str]:
    wanted = names or [name for name in USUAL if name in known] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise UsageProblem(f"no scenario is called {', '.join(unknown)}: there are {', '.join(known)}")
    if not wanted:
        raise UsageProblem("the file of scenarios has none")
    return list(dict.fromkeys(wanted))


def _access(access: Access) -> Access:
    try:
        access.check()
    except WrongAccess as error:
        raise UsageProblem(str(error)) from error
    return access


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP stop the calls as Ctrl-C does, so that what was measured is left and a mesh is stopped.

    SIGINT does so also where a shell started this in the background, and so had it ignored; nohup's SIGHUP stays so.
    """
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    try:
        for one in before:
            signal.signal(one, signal.default_int_handler)
        yield
    finally:
        for one, handler in before.items():
            # None is a handler that Python did not set and cannot put back.
            signal.signal(one, signal.SIG_DFL if handler is None else handler)


def _content(
    found: Mapping[str, Calls],
    known: Mapping[str, GhzScenario],
    target: str,
    began_s: float,
    ghz_: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "schema": results.SCHEMA,
        "command": results.command_line(sys.argv[1:]),
        "weft": version("weft"),
        "commit": results.commit(),
        "began_at": datetime.fromtimestamp(began_s, UTC).isoformat(timespec="seconds"),
        "target": target,
        "machine": results.machine(),
        "ghz": dict(ghz_),
        "scenarios": {name: {"call": known[name].call} | _figures(calls) for name, calls in found.items()},
    }


def _figures(calls: Calls) -> dict[str, Any]:
    return asdict(calls) | {
        "latency_ms": {f"p{share}": round(ms, 3) for share, ms in calls.latency_ms.items()},
        "ttft_ms": [round(ms, 3) for ms in calls.ttft_ms],
    }


def _leave(folder: Path, content: Mapping[str, Any], as_json: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(content))
    else:
        consoles.out().print(f"{folder / FILE}", style="dim", soft_wrap=True)


def _failures(found: Mapping[str, Calls], target: str, *, secure: bool) -> Iterator[str]:
    for name, calls in found.items():
        if not calls.count:
            yield f"{name}: ghz made no call to {target}"
        for status, count in calls.failed.items():
            words = calls.errors.get(status, "")
            advices = (*_ADVICE, *((mark, _SECURE_ADVICE if secure else _PLAIN_ADVICE) for mark in _CLOSED))
            advice = next((advice for mark, advice in advices if mark in f"{status} {words}"), "")
            yield ": ".join(part for part in (name, f"{status} {count} of {calls.count}", words) if part) + (
                f" ({advice})" if advice else ""
            )


def _listing(known: Mapping[str, GhzScenario]) -> Table:
    table = Table(title="scenarios", title_justify="left")
    table.add_column("name")
    table.add_column("what")
    for scenario in known.values():
        table.add_row(scenario.name, scenario.about)
    return table


def show_tables(found: Mapping[str, Calls], known: Mapping[str, GhzScenario], concurrency: int) -> None:
    """Prints latencies, and where there is TTFT a table of it, in 80 columns."""
    shares = [f"p{share}" for share in tool.SHARES]
    console = consoles.out()
    table = _table(f"as ghz sees it, {concurrency} calls at once; times in ms", "calls", "failed", "calls/s", *shares)
    for name, calls in found.items():
        counts = (str(calls.count), str(sum(calls.failed.values())), f"{calls.per_s:.1f}")
        table.add_row(name, *counts, *_latencies(calls))
    console.print(table)
    table = _table("TTFT in ms", *shares, "measured by")
    for name, calls in found.items():
        if known[name].ttft:
            table.add_row(name, *_latencies(calls), "ghz, the whole call")
        if calls.ttft_ms:
            carried = (number(calls.carried_ms(share)) for share in tool.SHARES)
            table.add_row(name, *carried, f"the router, in {len(calls.ttft_ms)} answers")
    if table.row_count:
        console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("scenario")
    for column in columns:
        table.add_column(column, justify="left" if column == "measured by" else "right")
    return table


def _latencies(calls: Calls) -> list[str]:
    return [number(calls.latency_ms[share]) if share in calls.latency_ms else "–" for share in tool.SHARES]
