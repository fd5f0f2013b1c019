"""`weft load run`: requests on a schedule, whatever the answers do, or users who wait for each."""

from dataclasses import replace
from typing import Annotated

import typer

from loadtest.load.commands import options, output
from loadtest.load.commands.gate import check
from loadtest.load.commands.measure import measure
from loadtest.load.commands.sweep import sweep
from loadtest.load.scenario import Arrivals, Scenario
from services.cli.problem import UsageProblem

USERS_LIMIT = 100_000

Users = Annotated[
    str,
    typer.Option(
        help="A closed loop of so many users instead of a rate; 10,50,100 is a run for each, side by side.",
        show_default="none",
    ),
]
Sessions = Annotated[int, typer.Option(min=0, help="Spread the requests over so many session ids.")]


def run(
    address: options.Address = None,
    rate: options.Rate = 10.0,
    seconds: options.Length = 30.0,
    steps: options.Steps = "",
    arrivals: options.How = Arrivals.POISSON,
    users: Users = "",
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
    max_error_share: options.MaxErrors = None,
    timeout_s: options.TimeoutS = 300.0,
    drain_s: options.DrainS = 60.0,
    start: options.Start = "",
    header: options.Header = None,
    key_env: options.KeyEnv = "",
    tls: options.Tls = False,
    ca_file: options.CaFile = "",
    allow_plain_text: options.PlainText = False,
    seed: options.Seed = 1,
    name: options.Name = "run",
    out: options.Out = options.OUT,
    as_json: options.Json = False,
) -> None:
    """Send requests on a schedule, whatever the answers do, and say what clients notice.

    Latencies count from when a request was due, so slow answers cannot hide by holding later requests back.

    Example: weft load run --rate 50 --seconds 60 --ttft-ms 500 --itl-ms 50

    Example: weft load run --users 10,50,100,500,1000 --seconds 30
    """
    if shared_tokens >= prompt_tokens and shared_tokens:
        raise UsageProblem("--shared-tokens must be less than --prompt-tokens, of which it is a part")
    counts = numbers(users)
    scenario = Scenario(
        transport=options.check_transport(transport),
        model=model,
        arrivals=arrivals,
        phases=options.phases(steps, rate, seconds),
        users=counts[0] if counts else 0,
        prompt_tokens=prompt_tokens,
        shared_tokens=shared_tokens,
        max_tokens=max_tokens,
        spread=spread,
        sessions=sessions,
        seed=seed,
        objectives=options.objectives(ttft_ms, itl_ms, tpot_ms, e2e_ms),
        drain_s=drain_s,
    )
    folder = options.folder(out, name)
    with options.aimed(
        address,
        start,
        model=model,
        headers=header or (),
        key_env=key_env,
        tls=tls,
        ca_file=ca_file,
        allow_plain_text=allow_plain_text,
        timeout_s=timeout_s,
    ) as aim:
        if len(counts) > 1:
            outcomes = sweep(aim, [replace(scenario, users=count) for count in counts], folder, as_json)
        else:
            outcomes = [output.leave(measure(aim, scenario, name), folder, as_json=as_json)]
    for found in outcomes:
        check(found, max_error_share)


def numbers(text: str) -> list[int]:
    """The numbers of users in `10` or `10,50,100`; none in an empty text. Raises UsageProblem."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if any(not part.isdecimal() or not 0 < int(part) <= USERS_LIMIT for part in parts):
        raise UsageProblem(f"--users: {text!r} is no number of users, or several such as 10,50,100")
    return [int(part) for part in parts]
