"""Runs ghz, an outside judge, over scenarios that are data, and reads what it reports."""

import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = Path(__file__).with_name("ghz_scenarios.toml")
RUN_LIMIT_S = 900.0
SAMPLE = 50
"""Calls whose messages are logged, to read the timings that answers carry; logging every message slows ghz down."""
HOW_TO_GET = "ghz is not installed: `make tools` builds it where Go is, and https://ghz.sh has binaries"
SHARES = (50, 95, 99)
_TTFT = re.compile(r"ttft:<(?:seconds:(\d+) )?(?:nanos:(\d+) )?>")


class GhzFailed(RuntimeError):
    """ghz reported nothing; the message holds its words."""


class WrongScenario(ValueError):
    """A scenario file that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class GhzScenario:
    """One kind of call. `messages` 0 takes the whole answer; `ttft` says that a call's time is the first token's."""

    name: str
    about: str
    call: str
    data: Any
    messages: int = 0
    ttft: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """How to get at the target: metadata such as a key, and TLS; without either the connection is plain."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def options(self) -> list[str]:
        """ghz's own options for it. Keys go by a file, since arguments can be seen by everybody."""
        if not (self.tls or self.ca_file or self.cert_file):
            return ["--insecure"]
        pairs = (("--cacert", self.ca_file), ("--cert", self.cert_file), ("--key", self.key_file))
        return [text for name, value in pairs if value for text in (name, value)]


@dataclass(frozen=True, slots=True)
class Calls:
    """What ghz reports: calls, latencies in ms by share, and those that did not end as they should, by status.

    `ttft_ms` are the timings that answers carried, of a sample; empty where they carry none.
    """

    count: int
    per_s: float
    latency_ms: Mapping[int, float]
    failed: Mapping[str, int]
    average_ms: float = 0.0
    ttft_ms: Sequence[float] = ()

    @property
    def carried_p50_ms(self) -> float | None:
        """Median of the TTFT that the router measured itself, from a request's arrival to its first token."""
        return median(self.ttft_ms) if self.ttft_ms else None


def find_ghz() -> str | None:
    """ghz's path: in .tools/bin, on PATH or where `go install` puts it."""
    places = [ROOT / ".tools" / "bin", Path.home() / "go" / "bin"]
    return shutil.which("ghz", path=str(places[0])) or shutil.which("ghz") or shutil.which("ghz", path=str(places[1]))


def load(file: Path = SCENARIOS) -> dict[str, GhzScenario]:
    """The scenarios in a file. Raises WrongScenario."""
    try:
        tables = tomllib.loads(file.read_text())
    except OSError as error:
        raise WrongScenario(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise WrongScenario(f"{file} is no TOML: {error}") from error
    return {name: _scenario(file, name, table) for name, table in tables.items()}


def _scenario(file: Path, name: str, table: Any) -> GhzScenario:
    known = {one.name: one.default is MISSING for one in fields(GhzScenario) if one.name != "name"}
    if not isinstance(table, dict):
        raise WrongScenario(f"{file}: {name} is no table; each scenario is one, such as [{name}]")
    if missing := [key for key, needed in known.items() if needed and key not in table]:
        raise WrongScenario(f"{file}: [{name}] lacks {', '.join(missing)}")
    if unknown := [key for key in table if key not in known]:
        raise WrongScenario(f"{file}: [{name}] has {', '.join(unknown)}; there are {', '.join(known)}")
    return GhzScenario(name, **table)


def descriptors() -> Path:
    """The descriptor set of every service: the checkout's, or the installed one."""
    found = ROOT / "gen" / "weft.binpb"
    return found if found.exists() else ROOT / "services" / "cli" / "data" / "weft.binpb"


def run(
    ghz: str,
    scenario: GhzScenario,
    address: str,
    concurrency: int,
    total: int,
    rate: int = 0,
    access: Access | None = None,
) -> Calls:
    """Runs one scenario. With `rate` requests a second leave whatever the answers do. Raises GhzFailed."""
    access = access or Access()
    with tempfile.TemporaryDirectory(prefix="weft-ghz-") as folder:
        base = [ghz, "--protoset", str(descriptors()), "--call", scenario.call, "-d", json.dumps(scenario.data)]
        base += ["-O", "json", "-t", "0", *access.options()]
        if access.metadata:
            secrets = Path(folder) / "metadata.json"
            secrets.touch(mode=0o600)
            secrets.write_text(json.dumps(dict(access.metadata)))
            base += ["-M", str(secrets)]
        if scenario.messages:
            base += ["--stream-call-count", str(scenario.messages), "--count-errors"]
        pace = ["--rps", str(rate), "--async"] if rate else []
        found = _report([*base, *pace, "-c", str(concurrency), "-n", str(total), address])
        log = Path(folder) / "messages.log"
        carried: list[float] = []
        if not scenario.messages and "StreamChat" in scenario.call:
            sample = str(min(total, SAMPLE))
            _report([*base, "-c", str(min(concurrency, int(sample))), "-n", sample, "--debug", str(log), address])
            carried = carried_ttft_ms(log.read_text())
    return read(found, cancelled_is_meant=bool(scenario.messages), carried=carried)


def _report(command: Sequence[str]) -> Mapping[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise GhzFailed(f"ghz did not end in {RUN_LIMIT_S:g} s: ask for fewer calls") from error
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
        found["count"], found["rps"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise GhzFailed(f"ghz reported nothing: {(done.stderr or done.stdout).strip()}") from error
    return found


def read(report: Mapping[str, Any], *, cancelled_is_meant: bool = False, carried: Sequence[float] = ()) -> Calls:
    """ghz's JSON report; its times are in ns. Shares that it leaves out, having too few calls, are missing."""
    spread = report.get("latencyDistribution") or []
    statuses: Mapping[str, int] = report.get("statusCodeDistribution") or {}
    meant = {"OK", "Canceled"} if cancelled_is_meant else {"OK"}
    return Calls(
        count=report["count"],
        per_s=report["rps"],
        latency_ms={entry["percentage"]: entry["latency"] / 1e6 for entry in spread},
        failed={status: count for status, count in statuses.items() if status not in meant},
        average_ms=(report.get("average") or 0) / 1e6,
        ttft_ms=tuple(carried),
    )


def carried_ttft_ms(log: str) -> list[float]:
    """The TTFT that each `finished` message of ghz's log holds."""
    matches = [_TTFT.search(line) for line in log.splitlines() if "finished:<" in line]
    return [int(match[1] or 0) * 1e3 + int(match[2] or 0) / 1e6 for match in matches if match]
