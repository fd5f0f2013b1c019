"""`weft load chaos`: a load with faults on a timetable, and what clients notice of each."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.table import Table

from loadtest.load.commands import options, output
from loadtest.load.commands.gate import check
from loadtest.load.drive import NoTarget, drive
from loadtest.load.faults import Effect, Fault, What, WrongFault, effects, parse
from loadtest.load.fleet import FleetFailed, fleet
from loadtest.load.results import Happening, Outcome
from loadtest.load.runner import Clock, OnTick
from loadtest.load.scenario import Arrivals, Scenario
from loadtest.load.summary import number
from loadtest.mesh import Mesh
from services.cli import consoles
from services.cli.problem import Problem, UsageProblem

Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        help="AT:WHAT:WORKER[:SECONDS[:FACTOR]], WHAT one of kill, hang, slow, drain, partition, cut. May be repeated.",
        show_default="5:kill:worker-0",
    ),
]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Workers to start, named worker-0 and so on.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A worker's setting, such as engine=sim or sim.itl_ms=20. May be repeated."),
]
RouterSettings = Annotated[
    list[str] | None, typer.Option("--router", help="A router's setting, KEY=VALUE. May be repeated.")
]
RestartS = Annotated[float, typer.Option(min=0.0, help="Time until a worker that was killed or drained comes back.")]


def chaos(
    fault: Faults = None,
    workers: Workers = 3,
    settings: Settings = None,
    router: RouterSettings = None,
    restart_s: RestartS = 1.0,
    rate: options.Rate = 20.0,
    seconds: options.Length = 20.0,
    steps: options.Steps = "",
    arrivals: options.How = Arrivals.POISSON,
    transport: options.Transport = "grpc",
    model: options.Model = "",
    prompt_tokens: options.PromptTokens = 128,
    max_tokens: options.MaxTokens = 100,
    ttft_ms: options.TtftMs = None,
    itl_ms: options.ItlMs = None,
    max_error_share: options.MaxErrors = 0.0,
    timeout_s: options.TimeoutS = 120.0,
    seed: options.Seed = 1,
    name: options.Name = "chaos",
    out: options.Out = options.OUT,
) -> None:
    """Load a mesh of its own while faults happen to its workers on a timetable.

    Says for each fault how long the longest silence was that a client saw, and what was lost, repeated or failed.
    Exit code 1 where a token was lost or came twice, or more answers failed than --max-error-share.

    Example: weft load chaos --fault 5:kill:worker-0 --fault 10:hang:worker-1:3 --fault 15:partition:worker-2:2
    """
    names = [f"worker-{index}" for index in range(workers)]
    try:
        faults = [parse(text, names) for text in fault or ("5:kill:worker-0",)]
    except WrongFault as error:
        raise UsageProblem(f"--fault: {error}") from error
    scenario = Scenario(
        transport=options.check_transport(transport),
        model=model,
        arrivals=arrivals,
        phases=options.phases(steps, rate, seconds),
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        seed=seed,
        objectives=options.objectives(ttft_ms, itl_ms, None, None),
    )
    late = [one for one in faults if one.at_s >= scenario.length_s]
    if late:
        raise UsageProblem(f"--fault: {late[0].at_s:g} s is after the last request, at {scenario.length_s:g} s")
    environment = variables("WORKER", settings or ["engine=sim"], "--set")
    router_environment = variables("ROUTER", router or (), "--router")
    run_folder = options.folder(out, name)
    if any(one.what is What.SLOW for one in faults) and environment.get("WEFT_WORKER__ENGINE", "") != "sim":
        raise UsageProblem("--fault: only workers with --set engine=sim can be made slow")
    with (
        tempfile.TemporaryDirectory(prefix="weft-chaos-") as folder,
        options.started("--workers 0", router_environment) as found,
    ):
        environment["WEFT_WORKER__ROUTERS"] = f'["{found.addresses["router"]}"]'
        with output.progress(name, scenario.length_s) as tick:
            run = _Run(scenario, faults, workers, environment, Path(folder), restart_s)
            try:
                outcome = uvloop.run(run.go(name, found, model, timeout_s, tick))
            except (NoTarget, FleetFailed) as error:
                raise Problem(str(error)) from error
    seen = effects(faults_as_they_were(faults, outcome.happenings), outcome.collector.lives)
    outcome = replace(outcome, extra={"effects": [effect.as_json() for effect in seen]})
    done = output.leave(outcome, run_folder)
    consoles.out().print(_table(seen))
    check(done, max_error_share)


def variables(section: str, pairs: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE settings as environment variables. Raises UsageProblem that names the option."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageProblem(f"{option}: {pair!r} is no KEY=VALUE, such as sim.itl_ms=20")
        found[f"WEFT_{section}__{key.replace('.', '__').upper()}"] = value
    return found


def faults_as_they_were(faults: Sequence[Fault], happenings: Sequence[Happening]) -> list[Fault]:
    """The faults with the times at which they really happened."""
    ordered = sorted(faults, key=lambda fault: fault.at_s)
    return [replace(fault, at_s=one.at_s) for fault, one in zip(ordered, happenings, strict=False)]


class _Run:
    """Everything of a run that lives in its event loop."""

    def __init__(
        self,
        scenario: Scenario,
        faults: list[Fault],
        workers: int,
        environment: dict[str, str],
        folder: Path,
        restart_s: float,
    ) -> None:
        self._scenario = scenario
        self._faults = faults
        self._workers = workers
        self._environment = environment
        self._folder = folder
        self._restart_s = restart_s

    async def go(self, name: str, mesh: Mesh, model: str, timeout_s: float, tick: OnTick) -> Outcome:
        """Starts the workers, loads them, and does the faults."""
        target = options.target_at(mesh.target, model=model, timeout_s=timeout_s)
        async with fleet(self._workers, self._environment, mesh.target, self._folder, self._restart_s) as members:

            async def play(clock: Clock, happenings: list[Happening]) -> None:
                await members.play(self._faults, clock, happenings)

            # Workers come and go, so only what stays is asked for its CPU.
            pids = {key: pid for key, pid in mesh.pids.items() if key in ("router", "envoy")}
            return await drive(
                self._scenario, target, name=name, pids=pids, watch=mesh.target, faults=play, on_tick=tick
            )


def _table(seen: list[Effect]) -> Table:
    table = Table(title="what clients noticed of each fault", title_justify="left")
    for column in ("at s", "fault", "worker", "under way", "moved", "failed", "lost", "repeated", "longest silence ms"):
        table.add_column(column, justify="left" if column in ("fault", "worker") else "right")
    for effect in seen:
        fault = effect.fault
        counts = (effect.under_way, effect.moved, effect.failed, effect.lost, effect.repeated)
        silence = number(effect.recovery_s * 1e3) if effect.recovery_s else "none"
        table.add_row(f"{fault.at_s:.1f}", fault.what.value, fault.worker, *map(str, counts), silence)
    return table
