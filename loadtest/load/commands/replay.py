"""`weft load replay`: a recorded trace, at its own times or faster."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from loadtest.load import schedule
from loadtest.load.commands import options, output
from loadtest.load.commands.gate import check
from loadtest.load.commands.measure import measure
from loadtest.load.prompts import Pool, from_blocks
from loadtest.load.record import Request
from loadtest.load.scenario import Scenario
from loadtest.traces import BLOCK_TOKENS, TraceRequest, azure, ideal_share, mooncake
from services.cli.problem import UsageProblem

File = Annotated[Path, typer.Argument(help="Mooncake's JSON lines, or Azure's CSV (2023 and 2024).")]
Scale = Annotated[float, typer.Option(min=0.001, help="2 plays the trace twice as fast.")]
Seconds = Annotated[float | None, typer.Option(min=0.1, help="Only so much of it, in the trace's own time.")]
FromS = Annotated[float, typer.Option("--from", min=0.0, help="Begin so far into the trace.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many requests.")]
PromptScale = Annotated[float, typer.Option(min=0.0001, max=1.0, help="Shorten prompts and answers by this factor.")]


def read(file: Path, seed: int) -> list[TraceRequest]:
    """The trace's requests by time. Raises UsageProblem where the file is none."""
    try:
        found = azure(file) if file.suffix == ".csv" else mooncake(file, random.Random(seed))
    except OSError as error:
        raise UsageProblem(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise UsageProblem(f"{file} is no trace of Mooncake's (.jsonl) or Azure's (.csv): {why}") from error
    if not found:
        raise UsageProblem(f"{file} holds no request")
    return found


def chosen(
    trace: Sequence[TraceRequest], scale: float, from_s: float, seconds: float | None, limit: int
) -> list[TraceRequest]:
    """The part to play, its times counted from 0 and scaled."""
    until_s = float("inf") if seconds is None else from_s + seconds
    part = [one for one in trace if from_s <= one.arrival_s < until_s][:limit]
    return [replace(one, arrival_s=(one.arrival_s - from_s) / scale) for one in part]


def requests(part: Sequence[TraceRequest], size: float, seed: int) -> Iterator[Request]:
    """Requests with prompts whose beginnings are shared as the trace's were."""
    pool = Pool(seed)
    block_tokens = max(1, round(BLOCK_TOKENS * size))
    for number, one in enumerate(part):
        tokens = max(1, round(one.prompt_tokens * size))
        messages = from_blocks(pool, one.blocks, tokens, block_tokens, number)
        yield Request(
            number, one.arrival_s, messages, max(1, round(one.output_tokens * size)), tokens, "trace", one.session
        )


def replay(
    file: File,
    address: options.Address = None,
    scale: Scale = 1.0,
    from_s: FromS = 0.0,
    seconds: Seconds = None,
    limit: Limit = 1_000_000,
    size: PromptScale = 1.0,
    transport: options.Transport = "grpc",
    model: options.Model = "",
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
    name: options.Name = "",
    out: options.Out = options.OUT,
    as_json: options.Json = False,
) -> None:
    """Replay a trace of real requests: their times, lengths and shared prefixes.

    Example: weft load replay mooncake_conversation.jsonl --scale 4 --seconds 600 --size 0.25
    """
    part = chosen(read(file, seed), scale, from_s, seconds, limit)
    if not part:
        raise UsageProblem("--from and --seconds leave no request of the trace")
    length_s = max(part[-1].arrival_s, 0.001)
    phase = schedule.Phase(len(part) / length_s, length_s, "trace")
    scenario = Scenario(
        transport=options.check_transport(transport),
        model=model,
        phases=(phase,),
        seed=seed,
        objectives=options.objectives(ttft_ms, itl_ms, tpot_ms, e2e_ms),
        drain_s=drain_s,
    )
    extra = {
        "trace": {
            "file": file.name,
            "scale": scale,
            "size": size,
            "from_s": from_s,
            "requests": len(part),
            "prompt_tokens": sum(one.prompt_tokens for one in part),
            "output_tokens": sum(one.output_tokens for one in part),
            "ideal_prefix_share": round(ideal_share(part), 4),
        }
    }
    name = name or file.stem
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
        outcome = measure(aim, scenario, name, requests=requests(part, size, seed), extra=extra)
        found = output.leave(outcome, folder, as_json=as_json)
    check(found, max_error_share)
