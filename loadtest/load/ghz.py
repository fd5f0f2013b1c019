"""Runs ghz, an outside judge, over scenarios that are data, and reads what it reports."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from loadtest.load.ghz_access import Access

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = Path(__file__).with_name("ghz_scenarios.toml")
RUN_LIMIT_S = 900.0
STOP_LIMIT_S = 10.0
VERSION_LIMIT_S = 10.0
VERSION_CHARS_LIMIT = 80
WORDS_LIMIT = 500
"""Characters of what ghz or a server says."""
SAMPLE = 50
"""Answers whose timing is read."""
SAMPLE_PER_S = 20
"""Four messages each, of which ghz's log takes 100 a second."""
SAMPLE_LIMIT_S = 60.0
SAMPLE_LOAD = "90s"
"""Longer than the sample may take: it ends the load."""
HOW_TO_GET = (
    "`make tools` builds ghz where Go is, so does `go install github.com/bojand/ghz/cmd/ghz@latest`, "
    "and https://ghz.sh has binaries"
)
SHARES = (50, 95, 99)
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "about": (str, "a text"),
    "call": (str, "a text such as weft.router.v1.RouterService/StreamChat"),
    "data": ((dict, list), "a message, or a list of them"),
    "messages": (int, "a number"),
    "ttft": (bool, "true or false"),
}
_TTFT = re.compile(r"ttft:\s*[<{](?:seconds:(\d+)\s*)?(?:nanos:(\d+)\s*)?[>}]")
_FINISHED = re.compile(r'"finished:\s*[<{]')
_MAX_TOKENS = ("max_tokens", "maxTokens")
_ERROR = re.compile(r"rpc error: code = (\w+) desc = (.*)", re.DOTALL)


class GhzFailed(RuntimeError):
    """There is no ghz, or it reported nothing, or was stopped for taking too long; the message says which.

    It holds ghz's words, or how to get it. `calls` are what a ghz that was stopped had made until then.
    """

    def __init__(self, words: str, calls: "Calls | None" = None) -> None:
        super().__init__(words)
        self.calls = calls


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
class Calls:
    """What ghz reports: calls, latencies in ms by share, and those that did not end as they should, by status.

    `errors` are the words that came most often with each of those statuses. `ttft_ms` are the timings that answers
    carried, of a sample under the same load: from a request's arrival at the router to its first token; empty where
    answers carry none. `interrupted` calls were stopped before all were made.
    """

    count: int
    per_s: float
    latency_ms: Mapping[int, float]
    failed: Mapping[str, int]
    average_ms: float = 0.0
    errors: Mapping[str, str] = field(default_factory=dict)
    ttft_ms: Sequence[float] = ()
    interrupted: bool = False

    @property
    def succeeded(self) -> int:
        """Calls that ended as they should."""
        return self.count - sum(self.failed.values())

    def carried_ms(self, share: int) -> float:
        """A percentile of the carried TTFT, by nearest rank as ghz's own are. There have to be some."""
        ordered = sorted(self.ttft_ms)
        return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def find_ghz() -> str:
    """ghz's path: in .tools/bin, on PATH or where `go install` puts it. Raises GhzFailed."""
    built, installed = ROOT / ".tools" / "bin", Path.home() / "go" / "bin"
    for path in (str(built), None, str(installed)):
        if found := shutil.which("ghz", path=path):
            return found
    raise GhzFailed(f"there is no ghz in {built}, on PATH or in {installed}: {HOW_TO_GET}")


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
    for key, (kinds, words) in _KINDS.items():
        if key in table and (not isinstance(table[key], kinds) or (kinds is int and isinstance(table[key], bool))):
            raise WrongScenario(f"{file}: [{name}] {key} has to be {words}")
    if table.get("messages", 0) < 0:
        raise WrongScenario(f"{file}: [{name}] messages has to be 0 or more")
    return GhzScenario(name, **table)


def descriptors() -> Path:
    """The descriptor set of every service: the checkout's, or the installed one."""
    found = ROOT / "gen" / "weft.binpb"
    return found if found.exists() else ROOT / "services" / "cli" / "data" / "weft.binpb"


def version(ghz: str) -> str:
    """What ghz says of itself: `dev` where `go install` built it. Raises GhzFailed for what cannot be run."""
    try:
        done = subprocess.run(
            [ghz, "--version"], capture_output=True, text=True, timeout=VERSION_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror if isinstance(error, OSError) else "it does not end"
        raise GhzFailed(f"{ghz} cannot be run: {why}. {HOW_TO_GET}") from error
    return (done.stdout or done.stderr).strip()[:VERSION_CHARS_LIMIT]


def run(
    ghz: str,
    scenario: GhzScenario,
    address: str,
    concurrency: int,
    total: int,
    rate: int = 0,
    access: Access | None = None,
) -> Calls:
    """Runs one scenario. With `rate` requests a second leave whatever the answers do. Raises GhzFailed.

    A KeyboardInterrupt ends ghz, and gives what it had until then.
    """
    aim = Aim(ghz, scenario.call, address, access or Access())
    load = ["--rps", str(rate), "--async"] if rate else []
    load += ["-c", str(concurrency)]
    if scenario.messages:
        load += ["--stream-call-count", str(scenario.messages), "--count-errors"]
    with tempfile.TemporaryDirectory(prefix="weft-ghz-") as folder:
        whole = Path(folder) / "data.json"
        whole.write_text(json.dumps(scenario.data))
        report, stop = _report(aim.command(whole, [*load, "-n", str(total)]), aim)
        calls = read(report, cancelled_is_meant=bool(scenario.messages), interrupted=stop is not None)
        if isinstance(stop, GhzFailed):
            raise GhzFailed(str(stop), calls)
        if (
            stop
            or scenario.messages
            or not scenario.call.endswith(("/StreamChat", ".StreamChat"))
            or not calls.succeeded
        ):
            return calls
        try:
            short = Path(folder) / "short.json"
            short.write_text(json.dumps(_one_token(scenario.data)))
            carried = _sample(aim, aim.command(whole, [*load, "-z", SAMPLE_LOAD]), short, min(total, SAMPLE))
        except KeyboardInterrupt:
            return replace(calls, interrupted=True)
    return replace(calls, ttft_ms=carried)


@dataclass(frozen=True, slots=True)
class Aim:
    """ghz, and what it calls."""

    ghz: str
    call: str
    address: str
    access: Access

    def command(self, data: Path, options: Sequence[str]) -> list[str]:
        """The arguments of ghz, which ends with this process whatever ends it. Nothing secret is among them."""
        leash = [sys.executable, "-P", "-m", "services.cli.leash", str(os.getpid())]
        base = ["--protoset", str(descriptors()), "--call", self.call, "-D", str(data), "-M", "/dev/stdin"]
        return [*leash, self.ghz, *base, "-O", "json", "-t", "0", *self.access.options(), *options, self.address]


def _report(command: Sequence[str], aim: Aim) -> tuple[Mapping[str, Any], KeyboardInterrupt | GhzFailed | None]:
    """ghz's report, and what stopped it before all calls were made."""
    stop: KeyboardInterrupt | GhzFailed | None = None
    with _started(command, aim, subprocess.PIPE, subprocess.PIPE) as process:
        try:
            out, said = process.communicate(timeout=RUN_LIMIT_S)
        except KeyboardInterrupt as error:
            stop = error
        except subprocess.TimeoutExpired:
            stop = GhzFailed(f"ghz did not end in {RUN_LIMIT_S:g} s: ask for fewer calls")
        if stop:
            # It reports what it has when it is interrupted.
            process.send_signal(signal.SIGINT)
            try:
                out, said = process.communicate(timeout=STOP_LIMIT_S)
            except subprocess.TimeoutExpired as error:
                raise stop from error
    try:
        found: Mapping[str, Any] = json.loads(out)
        found["count"], found["rps"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        words = (said or out).strip()[-WORDS_LIMIT:] or f"exit code {process.returncode}"
        raise stop or GhzFailed(f"{aim.ghz} reported nothing: {words}") from error
    return found, stop


def _sample(aim: Aim, load: Sequence[str], data: Path, calls: int) -> tuple[float, ...]:
    """TTFTs that answers of one token carry, which are asked for beside the same load once more.

    The report of the load itself stays free of them and of what writing a log costs. ghz's log leaves out what is
    said more than 100 times a second, so the sample comes at a pace that stays below it.
    """
    slow = ["-c", str(calls), "--rps", str(SAMPLE_PER_S), "-n", str(calls), "--debug", "stderr"]
    with _started(load, aim, subprocess.DEVNULL, subprocess.DEVNULL):
        sample = aim.command(data, slow)
        with _started(sample, aim, subprocess.DEVNULL, subprocess.PIPE) as process:
            try:
                return tuple(carried_ttft_ms(process.communicate(timeout=SAMPLE_LIMIT_S)[1]))
            except subprocess.TimeoutExpired:
                return ()


@contextmanager
def _started(command: Sequence[str], aim: Aim, out: int, said: int) -> Iterator[subprocess.Popen[str]]:
    """ghz, killed when the context is left; it reads the metadata from a pipe, and so leaves no key behind."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=said, text=True)
    with process:
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(aim.access.metadata_json())
                process.stdin.close()
            process.stdin = None
            yield process
        finally:
            process.kill()


def _one_token(data: Any) -> Any:
    """The same question for an answer of one token."""
    if isinstance(data, list):
        return [_one_token(one) for one in data]
    # protobuf's JSON knows either name of a field, and not both at once.
    rest = {name: value for name, value in (data.get("sampling") or {}).items() if name not in _MAX_TOKENS}
    return data | {"sampling": rest | {"max_tokens": 1}}


def read(report: Mapping[str, Any], *, cancelled_is_meant: bool = False, interrupted: bool = False) -> Calls:
    """ghz's JSON report; its times are in ns. Shares that it leaves out, having too few calls, are missing."""
    spread = report.get("latencyDistribution") or []
    statuses: Mapping[str, int] = report.get("statusCodeDistribution") or {}
    # What an interruption leaves under way is no failure either.
    meant = {"OK", "Canceled"} if cancelled_is_meant or interrupted else {"OK"}
    return Calls(
        count=report["count"],
        per_s=report["rps"],
        latency_ms={entry["percentage"]: entry["latency"] / 1e6 for entry in spread},
        failed={status: count for status, count in statuses.items() if status not in meant},
        average_ms=(report.get("average") or 0) / 1e6,
        errors=_errors(report.get("errorDistribution") or {}, meant),
        interrupted=interrupted,
    )


def _errors(texts: Mapping[str, int], meant: Collection[str]) -> dict[str, str]:
    """The words that came most often with each status."""
    found: dict[str, str] = {}
    for text, _ in sorted(texts.items(), key=lambda entry: -entry[1]):
        match = _ERROR.match(text)
        status, words = (match[1], match[2]) if match else ("Unknown", text)
        if status not in meant:
            found.setdefault(status, words[:WORDS_LIMIT])
    return found


def carried_ttft_ms(log: str) -> list[float]:
    """The TTFT that each `finished` message of ghz's log holds."""
    matches = [_TTFT.search(line) for line in log.splitlines() if _FINISHED.search(line)]
    return [int(match[1] or 0) * 1e3 + int(match[2] or 0) / 1e6 for match in matches if match]
