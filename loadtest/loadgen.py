"""Drives the peers' load generator, a program of its own that speaks OpenAI's HTTP, and reads what it says."""

import csv
import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RAMP_S = 1.0
"""The starts of streams are spread over this time."""
REQUEST_CONNECTIONS = 64
REQUEST_TIME_S = 2.5
PAIR_TOKENS = 32
ANSWER_LIMIT_S = 120.0
RUN_LIMIT_S = 300.0
MARKER = " tkn"
"""What it counts: the text that each token has to have once."""


class LoadgenFailed(RuntimeError):
    """The load generator ended without numbers."""


@dataclass(frozen=True, slots=True)
class Loadgen:
    """One compiled load generator; `model` is the name that it asks for."""

    binary: Path
    model: str = "sim"

    def streams(self, target: str, streams: int, tokens: int) -> dict[str, Any]:
        """So many streamed answers at once, each on a connection of its own."""
        return self._run(target, c=streams, n=streams, k=tokens, w=int(RAMP_S * 1e3), T=ANSWER_LIMIT_S)

    def requests(self, target: str) -> dict[str, Any]:
        """Unstreamed answers of one token, as many as can be in REQUEST_TIME_S over REQUEST_CONNECTIONS."""
        return self._run(target, c=REQUEST_CONNECTIONS, d=REQUEST_TIME_S, k=1, s=0)

    def warm(self, target: str) -> bool:
        """A few short answers; whether all came."""
        said = self._run(target, c=8, n=64, k=4, T=10)
        return bool(said["ok"] == 64)

    def pairs(self, reference: str, target: str, pairs: int) -> tuple[list[int], int]:
        """What `target` adds to the first token of `reference` in µs, one request at a time, and how many failed."""
        with tempfile.TemporaryDirectory(prefix="weft-loadgen-") as folder:
            rows = Path(folder) / "rows.csv"
            self._run(f"{reference},{target}", c=1, n=2 * pairs, k=PAIR_TOKENS, x=rows)
            with rows.open() as file:
                return added_us(list(csv.DictReader(file)))

    def _run(self, target: str, **options: object) -> dict[str, Any]:
        arguments = [text for key, value in options.items() for text in (f"-{key}", str(value))]
        command = [str(self.binary), "-t", target, "-m", self.model, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
        if done.returncode or not done.stdout:
            raise LoadgenFailed(f"{self.binary} ended with {done.returncode}: {done.stderr[-300:]}")
        said: dict[str, Any] = json.loads(done.stdout)
        return said


def added_us(rows: Iterable[Mapping[str, str]]) -> tuple[list[int], int]:
    """The differences of every second row to the one before it, in µs, and the rows that failed.

    The first pair opens the connections, so it is left out. Pairs with a failure are left out too.
    """
    ordered = list(rows)
    pairs = list(zip(ordered[::2], ordered[1::2], strict=False))[1:]
    good = [(a, b) for a, b in pairs if a["result"] == b["result"] == "ok"]
    failed = sum(row["result"] != "ok" for row in ordered)
    return [int(b["ttft_us"]) - int(a["ttft_us"]) for a, b in good], failed
