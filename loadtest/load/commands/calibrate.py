"""`weft load calibrate`: what the generator itself costs and adds on this machine."""

from typing import Annotated

import typer
from rich.table import Table

from loadtest.load.calibrate import calibrate as measure
from loadtest.load.summary import number
from services.cli import consoles
from services.cli.problem import UsageProblem

Streams = Annotated[str, typer.Option(help="Streams at once, several with commas between.")]
Tokens = Annotated[int, typer.Option(min=10, max=4096, help="Tokens of each answer.")]
GapMs = Annotated[float, typer.Option(min=1.0, help="Time between an answer's tokens.")]
Repeats = Annotated[int, typer.Option(min=1, help="Runs of each.")]


def calibrate(streams: Streams = "100,1000", tokens: Tokens = 200, gap_ms: GapMs = 20.0, repeats: Repeats = 1) -> None:
    """Measure the generator against answers at an exact pace: its CPU for a token, and what it adds to ITL.

    Example: weft load calibrate --streams 1000 --repeats 3
    """
    counts = [int(part) for part in streams.split(",") if part.strip().isdecimal() and int(part)]
    if len(counts) != streams.count(",") + 1:
        raise UsageProblem(f"--streams: {streams!r} is no number of streams, or several such as 100,1000")
    table = Table(title=f"the generator alone, {gap_ms:g} ms between tokens", title_justify="left")
    names = ("transport", "streams", "lost", "µs/token", "core", "ITL p99 made", "seen", "added", "loop late p99")
    for name in names:
        table.add_column(name, justify="left" if name == "transport" else "right")
    console = consoles.out()
    for count in counts:
        for transport in ("grpc", "openai"):
            for _ in range(repeats):
                with consoles.notes().status(f"{transport}: {count} streams"):
                    found = measure(transport, count, tokens, gap_ms)
                table.add_row(
                    transport,
                    f"{count:,}",
                    str(found.failed),
                    f"{found.us_per_token:.1f}",
                    f"{found.core_share:.0%}",
                    number(found.made_p99_ms),
                    number(found.seen_p99_ms),
                    f"{found.added_p99_ms:+.2f}",
                    number(found.loop_late_p99_ms),
                )
    console.print(table)
    console.print("times in ms; `made` is what the emitter did, so `added` is the generator's own", style="dim")
