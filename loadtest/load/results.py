"""The results of a run as one JSON file; docs/results.md describes every field."""

import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtest.load.collect import HISTOGRAMS, SLICE_S, Collector, Figures, Slice
from loadtest.load.runner import Ran
from loadtest.load.scenario import Scenario
from loadtest.load.watch import Seen
from loadtest.machine import describe

SCHEMA = 1
FILE = "results.json"
HIDDEN = r"\1***"
_HEADER = re.compile(r"^([^:]*:\s*).*$", re.DOTALL)
_SECRET = re.compile(r"""(?i)(\b[\w.-]*(?:keys?|token|secrets?|password)[=:]\s*)(?:'[^']*'|"[^"]*"|\[[^\]]*\]|\S+)""")
"""Settings such as openai.api_key=…, which may stand in options of the mesh that a run starts."""


class NoResults(ValueError):
    """A file that holds no results of a known schema; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that was done to the mesh during the run, such as a fault: when, and what."""

    at_s: float
    what: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a run left, before it is written."""

    name: str
    scenario: Scenario
    collector: Collector
    ran: Ran
    seen: Seen
    target: str
    began_s: float
    happenings: Sequence[Happening] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The whole file."""
    whole, ran = outcome.collector.whole, outcome.ran
    return {
        "schema": SCHEMA,
        "name": outcome.name,
        **provenance(outcome.target, outcome.began_s),
        "elapsed_s": round(ran.elapsed_s, 3),
        "interrupted_s": None if ran.stopped_s is None else round(ran.stopped_s, 3),
        "scenario": scenario(outcome.scenario),
        "generator": {
            "cpu_s": round(ran.cost.cpu_s, 3),
            "core_share": round(ran.cost.core_share, 4),
            "us_per_token": round(ran.cost.cpu_s / max(1, whole.tokens) * 1e6, 2),
            "loop_late": ran.cost.loop_late.summary(),
            "warnings": [*_interruption(ran), *ran.cost.warnings(whole.lag)],
        },
        "whole": whole_figures(outcome),
        "groups": {
            name: _over(outcome, group, _stretches(outcome, name)) for name, group in outcome.collector.groups.items()
        },
        "unanswered": ran.unanswered,
        "timeline": {"slice_s": SLICE_S, "slices": [_slice(one) for one in outcome.collector.slices]},
        "mesh": {
            "cpu_s": {name: round(cpu_s, 3) for name, cpu_s in outcome.seen.cpu_s.items()},
            "us_per_token": {
                name: round(cpu_s / max(1, whole.tokens) * 1e6, 2) for name, cpu_s in outcome.seen.cpu_s.items()
            },
            "looks": [
                {"at_s": round(look.at_s, 2), "queued": look.queued, "workers": dict(look.workers)}
                for look in outcome.seen.looks
            ],
        },
        "happenings": [asdict(one) for one in outcome.happenings],
        **outcome.extra,
    }


def provenance(target: str, began_s: float) -> dict[str, Any]:
    """What was run, by which version, when, where and against what."""
    return {
        "command": command_line(sys.argv[1:]),
        "weft": version("weft"),
        "commit": commit(),
        "began_at": datetime.fromtimestamp(began_s, UTC).isoformat(timespec="seconds"),
        "target": target,
        "machine": machine(),
    }


def scenario(found: Scenario) -> dict[str, Any]:
    """The scenario's fields, ready for JSON."""
    return asdict(found) | {"arrivals": found.arrivals.value}


def whole_figures(outcome: Outcome) -> dict[str, Any]:
    """The figures of the whole run, over the time in which it sent."""
    return _over(outcome, outcome.collector.whole, [(0.0, _sending_s(outcome))])


def _over(outcome: Outcome, found: Figures, stretches: Sequence[tuple[float, float]]) -> dict[str, Any]:
    came = sum(outcome.collector.tokens_between(*stretch) for stretch in stretches)
    return figures(found, sum(end_s - start_s for start_s, end_s in stretches), came)


def figures(found: Figures, length_s: float, came: float) -> dict[str, Any]:
    """Counts, rates over `length_s` in which `came` tokens came, and every histogram with its summary."""
    named = {name: getattr(found, name) for name in HISTOGRAMS}
    return {
        "sent": found.sent,
        "ok": found.ok,
        "failed": found.failed,
        "error_share": round(found.failed / found.sent, 6) if found.sent else 0.0,
        "codes": dict(found.codes),
        "examples": found.examples,
        "reasons": dict(found.reasons),
        "workers": dict(found.workers),
        "tokens": found.tokens,
        "prompt_tokens": found.prompt_tokens,
        "cached_tokens": found.cached_tokens,
        "lost_tokens": found.lost,
        "repeated_tokens": found.repeated,
        "missing_tokens": found.short,
        "coalesced_tokens": found.coalesced,
        "moved": found.moved,
        "rate_per_s": round(found.sent / length_s, 4) if length_s else 0.0,
        "good": found.good,
        "goodput_per_s": round(found.good / length_s, 4) if length_s else 0.0,
        "tokens_per_s": round(came / length_s, 2) if length_s else 0.0,
        "times": {name: one.summary() | {"hdr": one.encoded()} for name, one in named.items() if one.count},
    }


def _sending_s(outcome: Outcome) -> float:
    """How long requests were sent: the scenario's length, unless the run was interrupted."""
    planned_s, stopped_s = outcome.scenario.length_s or outcome.ran.elapsed_s, outcome.ran.stopped_s
    return planned_s if stopped_s is None else min(planned_s, stopped_s)


def _stretches(outcome: Outcome, group: str) -> list[tuple[float, float]]:
    """Begin and end of a group's phases; a closed loop is one group over the whole time."""
    until_s, start_s, found = _sending_s(outcome), 0.0, []
    for phase in outcome.scenario.phases:
        end_s = start_s + phase.length_s
        if phase.group == group and start_s < until_s:
            found.append((start_s, min(end_s, until_s)))
        start_s = end_s
    return found or [(0.0, until_s)]


def _interruption(ran: Ran) -> list[str]:
    return (
        [] if ran.stopped_s is None else [f"the run was interrupted after {ran.stopped_s:.1f} s: figures are of those"]
    )


def command_line(arguments: Sequence[str]) -> str:
    """The command as it can be pasted into a shell, without what may be secret in it."""
    shown, hide = [], False
    for text in arguments:
        attached = next((flag for flag in ("--header=", "-H") if text.startswith(flag) and text != "-H"), "")
        if hide:
            text = _HEADER.sub(HIDDEN, text)
        elif attached:
            text = attached + _HEADER.sub(HIDDEN, text.removeprefix(attached))
        else:
            text = _SECRET.sub(HIDDEN, text)
        hide = text in ("-H", "--header")
        shown.append(text)
    return shlex.join(["weft", *shown])


def _slice(one: Slice) -> dict[str, Any]:
    ttfts_ms = sorted(at_s * 1e3 for at_s in one.ttfts_s)
    return {
        "due": one.due,
        "sent": one.sent,
        "ended": one.ended,
        "failed": one.failed,
        "tokens": one.tokens,
        "moved": one.moved,
        "in_flight": one.in_flight,
        "longest_gap_ms": round(one.longest_gap_s * 1e3, 2),
        "ttft_p50_ms": round(_at(ttfts_ms, 0.5), 2),
        "ttft_p99_ms": round(_at(ttfts_ms, 0.99), 2),
    }


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0.0


def machine() -> dict[str, Any]:
    """Where the generator ran."""
    return {
        "description": describe(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_average": os.getloadavg(),
    }


def commit() -> str:
    """The checkout's commit, with `+` where files were changed; empty outside of one."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if not done.returncode else ""

    try:
        found = git("rev-parse", "--short=12", "HEAD")
        return found + ("+" if found and git("status", "--porcelain", "-uno") else "")
    except OSError:
        return ""


def write(folder: Path, found: Mapping[str, Any]) -> Path:
    """Writes results.json; readers see the old file or the whole new one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found, indent=1) + "\n")
    fresh.replace(path)
    return path


def read(path: Path, name: str = FILE) -> dict[str, Any]:
    """The results in a file, or in a run's folder; `name` is the file's there. Raises NoResults."""
    file = path / name if path.is_dir() else path
    try:
        found = json.loads(file.read_text())
    except OSError as error:
        raise NoResults(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NoResults(f"{file} holds no results: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise NoResults(f"{file} is not of schema {SCHEMA}: it was written by another version, or by something else")
    return found
