"""`weft load run`: requests on a schedule, whatever the answers do."""

from typing import Annotated

import typer
import uvloop

from loadtest.load import schedule
from loadtest.load.commands import options, output
from loadtest.load.commands.gate import check
from loadtest.load.drive import NoTarget, drive
from loadtest.load.scenario import Arrivals, Scenario
from services.cli.problem import Problem, UsageProblem

Rate = Annotated[float, typer.Option(min=0.001, help="Requests a second.")]
Length = Annotated[float, typer.Option("--seconds", min=0.1, help="How long requests are sent.")]
Steps = Annotated[str, typer.Option(help="RATE:SECONDS,RATE:SECONDS,… in place of --rate and --seconds.")]
How = Annotated[Arrivals, typer.Option(help="How requests arrive.")]
Users = Annotated[int, typer.Option(min=0, max=100_000, help="A closed loop of so many users instead of a rate.")]
Sessions = Annotated[int, typer.Option(min=0, help="Spread the requests over so many session ids.")]
DrainS = Annotated[float, typer.Option(min=0.0, help="Time that answers have to end after the last request.")]
MaxErrors = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Fail (exit code 1) over this share of failed answers.")
]
Json = Annotated[bool, typer.Option("--json", help="Print results.json in place of tables.")]


def run(
    address: options.Address = None,
    rate: Rate = 10.0,
    seconds: Length = 30.0,
    steps: Steps = "",
    arrivals: How = Arrivals.POISSON,
    users: Users = 0,
    transport: options.Transport = "grpc",
    model: options.Model = "",
    prompt_tokens: options.PromptTokens = 128,
    shared_tokens: options.SharedTokens = 0,
    max_tokens: options.MaxTokens = 64,
    spread: options.Spread = 0.0,
    sessions: Sessions = 0,
    ttft_ms: options.TtftMs = None,
    itl_ms: options.ItlMs = None,
    tpot_ms: options.TpotMs = None,
    e2e_ms: options.E2eMs = None,
    max_error_share: MaxErrors = None,
    timeout_s: options.TimeoutS = 300.0,
    drain_s: DrainS = 60.0,
    start: options.Start = "",
    header: options.Header = None,
    key_env: options.KeyEnv = "",
    tls: options.Tls = False,
    ca_file: options.CaFile = "",
    seed: options.Seed = 1,
    name: options.Name = "run",
    out: options.Out = options.OUT,
    as_json: Json = False,
) -> None:
    """Send requests on a schedule, whatever the answers do, and say what clients notice.

    Latencies count from when a request was due, so slow answers cannot hide by holding later requests back.

    Example: weft load run --rate 50 --seconds 60 --ttft-ms 500 --itl-ms 50
    """
    if shared_tokens >= prompt_tokens and shared_tokens:
        raise UsageProblem("--shared-tokens must be less than --prompt-tokens, of which it is a part")
    try:
        phases = schedule.phases(steps) if steps else [schedule.Phase(rate, seconds, f"1: {rate:g}/s")]
    except schedule.WrongSchedule as error:
        raise UsageProblem(f"--steps: {error}") from error
    scenario = Scenario(
        transport=options.check_transport(transport),
        model=model,
        arrivals=arrivals,
        phases=tuple(phases),
        users=users,
        prompt_tokens=prompt_tokens,
        shared_tokens=shared_tokens,
        max_tokens=max_tokens,
        spread=spread,
        sessions=sessions,
        seed=seed,
        objectives=options.objectives(ttft_ms, itl_ms, tpot_ms, e2e_ms),
        drain_s=drain_s,
    )
    with options.aimed(
        address,
        start,
        model=model,
        headers=header or (),
        key_env=key_env,
        tls=tls,
        ca_file=ca_file,
        timeout_s=timeout_s,
    ) as aim:
        with output.progress(name, scenario.length_s) as tick:
            try:
                outcome = uvloop.run(
                    drive(scenario, aim.target, name=name, pids=aim.pids, watch=aim.watch, on_tick=tick)
                )
            except NoTarget as error:
                raise Problem(str(error)) from error
        found = output.leave(outcome, options.folder(out, name), as_json=as_json)
    check(found, max_error_share)
