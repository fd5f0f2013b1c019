"""One page of HTML that holds everything: what was run, what came of it, and the plots. It loads nothing."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import repeat
from typing import Any

from loadtest.load import plots, summary

WORDS = 24
"""A column with a longer cell holds words."""
_CSS = """
:root { color-scheme: light; }
body { font: 14px/1.5 system-ui, sans-serif; color: #1c2126; background: #fff; margin: 2rem auto; max-width: 58rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
code { background: #f1f3f5; padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e3e6ea; }
th:first-child, td:first-child, .words { text-align: left; }
.words { min-width: 12rem; }
.quiet { color: #6a727b; } .bad { color: #c23b3b; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
.tile { border: 1px solid #e3e6ea; border-radius: 6px; padding: .5rem .9rem; min-width: 7.5rem; }
.tile b { display: block; font-size: 1.25rem; } svg { max-width: 100%; height: auto; }
"""


def page(run: Mapping[str, Any]) -> str:
    """The page of one run's results.json."""
    rates = {phase["group"]: phase["rate_per_s"] for phase in run["scenario"]["phases"]}
    groups = [(rates[name], group) for name, group in run["groups"].items() if name in rates]
    parts = [_head(run), _tiles(run), _warnings(run)]
    parts += [_section("Latency by percentile", plots.distributions(run)), _times(run)]
    parts += [_section("Timeline", plots.timeline(run)), _effects(run)]
    parts += [_section("By rate", svg) for svg in (plots.by_rate(groups),) if svg]
    parts += [_section("Workers", svg) for svg in (plots.workers(run),) if svg]
    parts += [_counts(run), _phases(run), _errors(run), _about(run)]
    return _document(run["name"], parts)


def capacity_page(found: Mapping[str, Any], beyond: Mapping[str, Any] | None) -> str:
    """The page of a search for the capacity; `beyond` is the run at twice of it."""
    bounds = found["bounds"]
    words = [f"p99 {key} ≤ {bounds[name] * 1e3:g} ms" for key, name in _BOUNDS if bounds[name] is not None]
    words.append(f"at most {bounds['error_share']:.2%} of the answers failed, no token lost or repeated")
    tiles = [
        _rate_tile(found["holds_per_s"], found["holds_runs"], "held"),
        _rate_tile(found["breaks_per_s"], found["breaks_runs"], "broke"),
        (str(len(found["probes"])), "runs"),
    ]
    cells = "".join(f'<div class="tile"><b>{escape(value)}</b>{escape(name)}</div>' for value, name in tiles)
    parts = [
        _head({**found, "name": "Capacity"}) + f"<p>{escape(', '.join(words))}</p>",
        f'<div class="tiles">{cells}</div>',
        _section("By rate", plots.by_rate([(one["rate_per_s"], one["figures"]) for one in found["probes"]])),
        _section("Runs, times in ms", _probes(found)),
    ]
    if beyond is not None:
        parts += [_section("At half, at twice, and at half again", plots.timeline(beyond)), _phases(beyond)]
        parts += [_section("Workers", plots.workers(beyond)), _errors(beyond)]
    return _document("Capacity", [*parts, _about(found)])


def _rate_tile(rate_per_s: float | None, runs: Mapping[str, int] | None, what: str) -> tuple[str, str]:
    """A rate, and in how many of its runs it did that."""
    if not rate_per_s or runs is None:
        return "none", f"of the rates {what}"
    return f"{rate_per_s:.3g} requests/s", f"{what} in {runs[what]} of {sum(runs.values())} runs"


def sweep_page(runs: Sequence[Mapping[str, Any]]) -> str:
    """The page of runs with different numbers of users."""
    first = runs[0]
    table = _table(summary.USERS_COLUMNS, [summary.users_cells(run) for run in runs])
    users = [(run["scenario"]["users"], run["whole"]) for run in runs]
    depths = plots.queue_depths([(run["name"], run) for run in runs])
    parts = [_head({**first, "name": "By users"}), _section("Runs, times in ms", table)]
    parts += [_section("By users", plots.by_users(users)), _section("Queues over time", depths)]
    parts += [_section(run["name"], _warnings(run) + plots.timeline(run) + _errors(run)) for run in runs]
    return _document("By users", [*parts, _about(first)])


_BOUNDS = (("TTFT", "ttft_p99_s"), ("ITL", "itl_p99_s"))


def _probes(found: Mapping[str, Any]) -> str:
    times = ("TTFT p50", "TTFT p99", "ITL p50", "ITL p99")
    header = ("requests/s", "failed %", *times, "tokens/s", "good/s", "queue, most", "")
    rows = []
    for one in sorted(found["probes"], key=lambda probe: float(probe["rate_per_s"])):
        _, *cells = summary.group_cells(one["figures"])
        most = one["figures"]["queue_most"]
        words = [one["broken"] or "holds", *one["figures"]["warnings"]]
        rows.append([f"{one['rate_per_s']:.1f}", *cells, "–" if most is None else str(most), "; ".join(words)])
    return _table(header, rows)


def _document(title: str, parts: Sequence[str]) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_CSS}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _head(run: Mapping[str, Any]) -> str:
    when = f"{run['began_at']} · {run['elapsed_s']:.0f} s · commit {run['commit'] or 'unknown'}"
    return (
        f"<h1>{escape(run['name'])}</h1><p><code>{escape(run['command'])}</code></p>"
        f'<p class="quiet">{escape(when)}<br>{escape(run["machine"]["description"])}</p>'
    )


def _tiles(run: Mapping[str, Any]) -> str:
    whole = run["whole"]
    lost = whole["lost_tokens"] + whole["missing_tokens"] + whole["repeated_tokens"]
    tiles = [
        (f"{summary.number(whole['rate_per_s'])}/s", "requests"),
        (f"{whole['tokens_per_s']:,.0f}/s", "tokens"),
        (f"{whole['error_share'] * 100:.2f} %", "failed"),
        (str(lost), "tokens lost or repeated"),
    ]
    for key, name in (("ttft", "TTFT"), ("itl", "ITL")):
        if one := whole["times"].get(key):
            tiles += [(f"{summary.number(one[column])} ms", f"{name} {column[:-3]}") for column in ("p50_ms", "p99_ms")]
    if any(value is not None for value in run["scenario"]["objectives"].values()):
        tiles.append((f"{summary.number(whole['goodput_per_s'])}/s", "good answers"))
    cells = "".join(f'<div class="tile"><b>{escape(value)}</b>{escape(name)}</div>' for value, name in tiles)
    return f'<div class="tiles">{cells}</div>'


def _warnings(run: Mapping[str, Any]) -> str:
    return "".join(f'<p class="bad">{escape(warning)}</p>' for warning in run["generator"]["warnings"])


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    words = [max((len(row[at]) for row in rows), default=0) > WORDS for at in range(len(header))]
    head = "".join(map(_cell, header, words, repeat("th")))
    body = "".join("<tr>" + "".join(map(_cell, row, words, repeat("td"))) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(text: str, words: bool, tag: str) -> str:
    """Words are read from the left, numbers compared at the right."""
    kind = ' class="words"' if words else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _times(run: Mapping[str, Any]) -> str:
    header = ["ms", *(column.removesuffix("_ms") for column in summary.COLUMNS), "count"]
    rows = [
        [name, *(summary.number(one[column]) for column in summary.COLUMNS), f"{one['count']:,}"]
        for key, name, _ in summary.ROWS
        if (one := run["whole"]["times"].get(key))
    ]
    words = "; ".join(f"{name}: {what}" for key, name, what in summary.ROWS if key in run["whole"]["times"])
    return _table(header, rows) + f'<p class="quiet">{escape(words)}.</p>'


def _counts(run: Mapping[str, Any]) -> str:
    return _section("Answers", _table(("", ""), summary.counts(run)))


def _phases(run: Mapping[str, Any]) -> str:
    if len(run["groups"]) < 2:
        return ""
    header = ("phase", "sent/s", "failed %", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "tokens/s", "good/s")
    return _section(
        "Phases", _table(header, [[name, *summary.group_cells(one)] for name, one in run["groups"].items()])
    )


def _errors(run: Mapping[str, Any]) -> str:
    rows = [
        (code, str(count), next(iter(run["whole"]["examples"].get(code, [])), "")[:300])
        for code, count in run["whole"]["codes"].items()
        if code != "OK"
    ]
    return _section("What failed", _table(("code", "answers", "for example"), rows)) if rows else ""


def _effects(run: Mapping[str, Any]) -> str:
    header = (
        "fault",
        "at s",
        "worker",
        "under way",
        "moved",
        "failed",
        "tokens lost",
        "repeated",
        "longest silence, ms",
    )
    counts = ("under_way", "moved", "failed", "lost_tokens", "repeated_tokens")
    rows = [
        (
            one["what"],
            f"{one['at_s']:.1f}",
            one["worker"],
            *(str(one[key]) for key in counts),
            summary.number(one["recovery_ms"]) if one["recovery_ms"] else "none",
        )
        for one in run.get("effects", ())
    ]
    return _section("What clients noticed of each fault", _table(header, rows)) if rows else ""


def _about(run: Mapping[str, Any]) -> str:
    rows = []
    if generator := run.get("generator"):
        rows += [
            ("generator", f"{generator['core_share']:.0%} of a core, {generator['us_per_token']:g} µs a token"),
            ("its loop late, p99", f"{summary.number(generator['loop_late']['p99_ms'])} ms"),
        ]
    rows += [
        ("target", run["target"]),
        ("transport", run["scenario"]["transport"]),
        ("prompt / answer tokens", f"{run['scenario']['prompt_tokens']} / {run['scenario']['max_tokens']}"),
        ("arrivals", run["scenario"]["arrivals"]),
        ("system", run["machine"]["system"]),
        ("load average when written", ", ".join(f"{value:.1f}" for value in run["machine"]["load_average"])),
    ]
    return _section("How it was measured", _table(("", ""), rows))
