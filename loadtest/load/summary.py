"""The figures of a run as terminal tables and as Markdown, from results.json alone."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

ROWS = (
    ("ttft", "TTFT", "from when a request was due to its first token"),
    ("ttft_sent", "TTFT sent", "the same from when it was sent"),
    ("itl", "ITL", "between tokens; 0 for those that came in one chunk"),
    ("chunk_gap", "chunk gap", "between chunks"),
    ("tpot", "TPOT", "an answer's mean time a token after the first"),
    ("e2e", "end to end", "from due to the end of a whole answer"),
    ("queue", "queue", "in the router's queue, as it says itself; those that waited"),
    ("longest_gap", "longest gap", "an answer's longest silence"),
)
_PAIRS = ("TTFT p50", "TTFT p99", "ITL p50", "ITL p99")
USERS_COLUMNS = ("users", "failed %", *_PAIRS, "tokens/s", "answers/s", "queue, most")
COLUMNS = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99.9_ms", "max_ms")


def terminal(found: Mapping[str, Any]) -> RenderableType:
    """Tables for a person at a terminal."""
    parts: list[RenderableType] = [_times(found), _counts(found)]
    if len(found["groups"]) > 1:
        parts.append(_groups(found))
    parts += [Text(f"! {warning}", style="yellow") for warning in found["generator"]["warnings"]]
    parts += [
        Text(f"{code}: {text}", style="red")
        for code, texts in found["whole"]["examples"].items()
        for text in texts[:1]
        if text
    ]
    return Group(*parts)


def _times(found: Mapping[str, Any]) -> Table:
    table = Table(title=f"{found['name']}: times in ms", title_justify="left")
    table.add_column("")
    for column in COLUMNS:
        table.add_column(column.removesuffix("_ms"), justify="right")
    table.add_column("count", justify="right")
    for key, name, _ in ROWS:
        if one := found["whole"]["times"].get(key):
            table.add_row(name, *(number(one[column]) for column in COLUMNS), f"{one['count']:,}")
    return table


def _counts(found: Mapping[str, Any]) -> Table:
    table = Table(title="answers", title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in counts(found):
        table.add_row(name, value)
    return table


def counts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was sent and what came of it, in words and numbers."""
    whole, generator = found["whole"], found["generator"]
    errors = ", ".join(f"{code} {count}" for code, count in whole["codes"].items() if code != "OK")
    rows = [
        ("sent", f"{whole['sent']:,} ({whole['rate_per_s']:g}/s)"),
        ("whole", f"{whole['ok']:,}"),
        ("failed", f"{whole['failed']:,}" + (f" ({errors})" if errors else "")),
        ("tokens", f"{whole['tokens']:,} ({whole['tokens_per_s']:,.0f}/s)"),
        ("tokens lost / repeated", f"{whole['lost_tokens'] + whole['missing_tokens']} / {whole['repeated_tokens']}"),
        ("moved to another worker", f"{whole['moved']:,}"),
    ]
    wanted = {name: value for name, value in found["scenario"]["objectives"].items() if value is not None}
    if wanted:
        words = ", ".join(f"{name.removesuffix('_s')} ≤ {value * 1e3:g} ms" for name, value in wanted.items())
        rows.append((f"good ({words})", f"{whole['good']:,} ({whole['goodput_per_s']:g}/s)"))
    share = f"{generator['core_share']:.0%} of a core, {generator['us_per_token']:g} µs a token"
    rows.append(("the generator itself", share))
    rows += [(f"CPU of {name}", f"{cost:g} µs a token") for name, cost in found["mesh"]["us_per_token"].items() if cost]
    return rows


def _groups(found: Mapping[str, Any]) -> Table:
    table = Table(title="by phase", title_justify="left")
    for name in ("phase", "sent/s", "failed %", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "tokens/s", "good/s"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for name, group in found["groups"].items():
        table.add_row(name, *group_cells(group))
    return table


def group_cells(group: Mapping[str, Any]) -> list[str]:
    """One phase's row, after its name."""
    ttft, itl = group["times"].get("ttft", {}), group["times"].get("itl", {})
    times = [number(one.get(column, 0.0)) for one in (ttft, itl) for column in ("p50_ms", "p99_ms")]
    rates = [f"{group['tokens_per_s']:,.0f}", f"{group['goodput_per_s']:g}"]
    return [f"{group['rate_per_s']:g}", f"{group['error_share'] * 100:.2f}", *times, *rates]


def users_cells(run: Mapping[str, Any]) -> list[str]:
    """One number of users' row, as USERS_COLUMNS say."""
    whole = run["whole"]
    _, failed, *times, tokens, _ = group_cells(whole)
    most = max((look["queued"] for look in run["mesh"]["looks"]), default=None)
    ended = number(whole["ok"] / whole["sent"] * whole["rate_per_s"]) if whole["sent"] else "0"
    return [str(run["scenario"]["users"]), failed, *times, tokens, ended, "–" if most is None else str(most)]


def number(value: float) -> str:
    """Three digits, no more than are meant."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(found: Mapping[str, Any]) -> str:
    """The same as a page of Markdown."""
    head = [f"# {found['name']}", "", f"`{found['command']}`", ""]
    head += [f"{found['began_at']}, commit {found['commit'] or 'unknown'}, {found['machine']['description']}.", ""]
    times = ["| ms | " + " | ".join(c.removesuffix("_ms") for c in COLUMNS) + " | count | what |"]
    times.append("|---|" + "--:|" * (len(COLUMNS) + 1) + "---|")
    for key, name, what in ROWS:
        if one := found["whole"]["times"].get(key):
            cells = " | ".join(number(one[column]) for column in COLUMNS)
            times.append(f"| {name} | {cells} | {one['count']:,} | {what} |")
    rows = ["", "| answers | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in counts(found)), ""]
    phases = []
    if len(found["groups"]) > 1:
        phases.append("| phase | sent/s | failed % | TTFT p50 | p99 | ITL p50 | p99 | tokens/s | good/s |")
        phases.append("|---|" + "--:|" * 8)
        phases += [f"| {name} | {' | '.join(group_cells(group))} |" for name, group in found["groups"].items()]
        phases.append("")
    notes = [f"- {warning}" for warning in found["generator"]["warnings"]]
    notes += [f"- {one['at_s']:.1f} s: {one['what']} {one['target']}" for one in found["happenings"]]
    return "\n".join([*head, *times, *rows, *phases, *notes]).rstrip() + "\n"
