"""Options that several commands of `weft load` share, and what they become."""

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from loadtest.load import schedule
from loadtest.load.client import Target
from loadtest.load.clients import TRANSPORTS
from loadtest.load.collect import Objectives
from loadtest.load.scenario import Arrivals
from loadtest.mesh import Mesh, mesh
from services.cli import consoles
from services.cli.problem import Problem, UsageProblem
from services.cli.target import address_of
from services.kit.plain_text import is_in_the_open
from services.kit.settings import load_settings

OUT = Path("load-results")
_KEY_HEADERS = ("authorization", "api-key")
"""How the names of headers end that let somebody in."""

Address = Annotated[str | None, typer.Option("--target", help="host:port.", show_default="the mesh that runs here")]
Start = Annotated[
    str,
    typer.Option(help="Start a mesh for this run with these options of `weft up`, and stop it afterwards."),
]
Transport = Annotated[str, typer.Option(help="grpc (StreamChat), openai (chat completions), http (/v1/chat).")]
Model = Annotated[str, typer.Option(help="The model to ask for.")]
Header = Annotated[list[str] | None, typer.Option("--header", "-H", help="'Name: value', sent with each request.")]
KeyEnv = Annotated[str, typer.Option(help="Environment variable with a key, sent as a bearer token.")]
Tls = Annotated[bool, typer.Option("--tls", help="Use TLS with the system's certificates.")]
CaFile = Annotated[str, typer.Option(help="Use TLS and trust this certificate.")]
PlainText = Annotated[
    bool, typer.Option("--allow-plain-text", help="Send keys to another machine without TLS, readable on the way.")
]
TimeoutS = Annotated[float, typer.Option(min=0.1, help="Longest time for one answer.")]
PromptTokens = Annotated[int, typer.Option(min=1, max=1_000_000, help="Tokens of each prompt, about.")]
SharedTokens = Annotated[int, typer.Option(min=0, help="Of those, tokens of a system prompt that all share.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Tokens of each answer.")]
Spread = Annotated[float, typer.Option(min=0.0, max=1.0, help="Vary both by this share, evenly.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same requests at the same times.")]
TtftMs = Annotated[float | None, typer.Option(min=0.0, help="Objective: first token within this.")]
ItlMs = Annotated[float | None, typer.Option(min=0.0, help="Objective: 99 % of an answer's gaps within this.")]
TpotMs = Annotated[float | None, typer.Option(min=0.0, help="Objective: mean time a token within this.")]
E2eMs = Annotated[float | None, typer.Option(min=0.0, help="Objective: whole answer within this.")]
Out = Annotated[Path, typer.Option(help="Folder for the results; each run gets one in it.")]
Name = Annotated[str, typer.Option(help="The run's name, part of its folder's.")]
Rate = Annotated[float, typer.Option(min=0.001, help="Requests a second.")]
Length = Annotated[float, typer.Option("--seconds", min=0.1, help="How long requests are sent.")]
Steps = Annotated[str, typer.Option(help="RATE:SECONDS,RATE:SECONDS,… in place of --rate and --seconds.")]
How = Annotated[Arrivals, typer.Option(help="How requests arrive.")]
DrainS = Annotated[float, typer.Option(min=0.0, help="Time that answers have to end after the last request.")]
MaxErrors = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Fail (exit code 1) over this share of failed answers.")
]
Json = Annotated[bool, typer.Option("--json", help="Print results.json in place of tables.")]


@dataclass(frozen=True, slots=True)
class Running:
    """What a run is aimed at: the target, an address that knows workers and queues, and processes on this machine."""

    target: Target
    watch: str
    pids: dict[str, int] = field(default_factory=dict)


@contextmanager
def aimed(
    address: str | None,
    start: str,
    *,
    model: str,
    headers: Sequence[str],
    key_env: str,
    tls: bool,
    ca_file: str,
    allow_plain_text: bool,
    timeout_s: float,
) -> Iterator[Running]:
    """The target of a run; with `start`, a mesh that lives as long. Raises UsageProblem for options that cannot be."""
    if ca_file and not Path(ca_file).is_file():
        raise UsageProblem(f"--ca-file: there is no file {ca_file}")
    fields = _fields(headers, key_env)

    def target(where: str) -> Target:
        base = target_at(where, model=model, timeout_s=timeout_s)
        return replace(base, headers=tuple(fields), tls=tls, ca_file=ca_file)

    if start:
        if address:
            raise UsageProblem("--start and --target exclude each other: the mesh that is started is the target")
        if tls or ca_file:
            raise UsageProblem("--start: the mesh that is started speaks no TLS, so leave the options for TLS out")
        with started(start) as found:
            yield Running(
                target(found.target), found.target, {name: pid for name, pid in found.pids.items() if name != "up"}
            )
        return
    where = address_of(address, load_settings())
    if not (tls or ca_file or allow_plain_text):
        _check_privacy(where, fields)
    # Calls beside the load go without TLS; behind it, nothing is looked at.
    yield Running(target(where), "" if tls or ca_file else where, _local_pids(where))


def _fields(headers: Sequence[str], key_env: str) -> list[tuple[str, str]]:
    """The headers, and the key that a variable holds."""
    fields = [*map(_header, headers)]
    if key_env:
        if not (key := os.environ.get(key_env)):
            raise UsageProblem(f"--key-env: the environment has no {key_env}")
        fields.append(("Authorization", f"Bearer {key}"))
    return fields


def _check_privacy(where: str, fields: Sequence[tuple[str, str]]) -> None:
    """Raises UsageProblem where others could read a key on its way; only for what is sent without TLS."""
    keys = [name for name, _ in fields if name.lower().endswith(_KEY_HEADERS)]
    if keys and is_in_the_open(where):
        raise UsageProblem(
            f"{', '.join(keys)} would go to {where} in plain text, where others can read it: use --tls or --ca-file, "
            "or --allow-plain-text on a network that you trust"
        )


def target_at(where: str, *, model: str, timeout_s: float) -> Target:
    """host:port as a target."""
    host, _, port = where.rpartition(":")
    return Target(host.strip("[]"), int(port), model, timeout_s=timeout_s)


@contextmanager
def started(options: str, environment: Mapping[str, str] | None = None) -> Iterator[Mesh]:
    """A mesh with these options of `weft up` and variables, for as long as the context lasts. Raises Problem."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(mesh(*shlex.split(options), environment=dict(environment or {})))
        except RuntimeError as error:
            raise Problem(str(error)) from error
        consoles.notes().print(f"a mesh for this run listens on {found.target}", style="dim", highlight=False)
        yield found


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9-]+", name) or "\n" in value or "\r" in value:
        raise UsageProblem(f"--header: {name!r} is no 'Name: value'")
    return name, value.strip()


def _local_pids(where: str) -> dict[str, int]:
    """Processes of the mesh on this machine's data folder, where that is the target."""
    from services.cli import mesh_file

    found = mesh_file.read(load_settings().data_dir)
    if not found or found["target"] != where:
        return {}
    return {name: entry["pid"] for name, entry in found["processes"].items() if entry["pid"]}


def objectives(ttft_ms: float | None, itl_ms: float | None, tpot_ms: float | None, e2e_ms: float | None) -> Objectives:
    """The objectives in seconds."""

    def seconds(ms: float | None) -> float | None:
        return None if ms is None else ms / 1e3

    return Objectives(seconds(ttft_ms), seconds(itl_ms), seconds(tpot_ms), seconds(e2e_ms))


def phases(steps: str, rate: float, length_s: float) -> tuple[schedule.Phase, ...]:
    """What --steps, or else --rate and --seconds say. Raises UsageProblem."""
    try:
        return tuple(schedule.phases(steps)) if steps else (schedule.Phase(rate, length_s, f"1: {rate:g}/s"),)
    except schedule.WrongSchedule as error:
        raise UsageProblem(f"--steps: {error}") from error


def check_transport(name: str) -> str:
    """The name, where there is such a transport. Raises UsageProblem."""
    if name not in TRANSPORTS:
        raise UsageProblem(f"--transport: {name!r} is none of {', '.join(TRANSPORTS)}")
    return name


def folder(out: Path, name: str) -> Path:
    """A folder for one run, which does not exist yet, in one that can be written to. Raises UsageProblem.

    To be called before the load, so that no run ends with results that nobody can keep.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageProblem(f"--out: nothing can be written to {out}: {error.strerror}") from error
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or 'run'}"
    found = out / stem
    number = 1
    while found.exists():
        number += 1
        found = out / f"{stem}-{number}"
    return found
