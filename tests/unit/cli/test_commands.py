"""The command line: help, options, and the sentences for wrong input. Nothing is started here."""

import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.__main__ import build

GROUPED = [
    *("ingests list", "ingests watch", "ingests cancel", "quarantine list", "indexes list", "indexes show"),
    *("indexes create", "indexes update", "indexes delete", "indexes reembed"),
    *("indexes alias set", "indexes alias remove", "indexes snapshot create", "indexes snapshot list"),
    *("indexes snapshot restore", "indexes snapshot delete"),
]
COMMANDS = ["up", "demo", "ingest", "ask", "chat", "workers", "doctor"]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def weft(*arguments: str) -> Any:
    return CliRunner().invoke(build(), arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    result = weft(command, "--help")
    assert result.exit_code == 0
    assert f"Example: weft {command}" in result.output


@pytest.mark.parametrize("command", GROUPED)
def test_help_of_groups_has_an_example(command: str) -> None:
    result = weft(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: weft {command}" in result.output


def test_the_version() -> None:
    result = weft("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("weft ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["up", "--engine", "foo"], "worker.engine", id="unknown engine"),
        pytest.param(["up", "--model", "no.gguf"], "no.gguf: there is no such model file", id="missing model"),
        pytest.param(["up", "--engine", "llamacpp"], "--model FILE.gguf", id="llamacpp without a model"),
        pytest.param(["up", "--workers", "-1"], "--workers", id="workers below none"),
        pytest.param(["up", "--sim-itl-ms", "5"], "add --engine sim", id="sim options without simulated workers"),
        pytest.param(["up", "--model", __file__], "add --engine llamacpp", id="a model that nothing reads"),
        pytest.param(["up", "--engine", "llamacpp", "--model", __file__], "no GGUF file", id="a file that is no model"),
        pytest.param(["up", "--sim-speed", "1,2,3"], "3 numbers, and --workers is 2", id="too many sim speeds"),
        pytest.param(["up", "--sim-speed", "1,fast"], "'fast' is no number above 0", id="a sim speed in words"),
        pytest.param(["up", "--sim-speed", "0"], "'0' is no number above 0", id="a sim that stands still"),
        pytest.param(["up", "--http-port", "70000"], "--http-port", id="no such port"),
        pytest.param(["up", "--http-prot", "1"], "--http-port", id="a misspelt option names the nearest"),
        pytest.param(["ingest", "no", "nor"], "no: there is no such file", id="missing path"),
        pytest.param(["ingest"], "paths", id="no path"),
        pytest.param(["ingest", "a.md", "https://example.org/"], "one kind at a time", id="paths and URIs"),
        pytest.param(["ingest", __file__, "--detach"], "only what URIs name", id="files cannot be detached"),
        pytest.param(["quarantine", "clear"], "say --all", id="clear needs to know what"),
        pytest.param(["ask", " "], "the question is empty", id="empty question"),
        pytest.param(
            ["ask", "x", "--no-retrieval", "--index", "a"], "exclude each other", id="index without retrieval"
        ),
        pytest.param(["ask", "x", "--top-k", "21"], "--top-k", id="too many passages"),
        pytest.param(["ask", "x", "--target", "foo"], "is no host:port", id="target without a port"),
        pytest.param(["wokers"], "workers", id="a misspelt command names the nearest"),
    ],
)
def test_wrong_usage_is_code_2_and_a_sentence(arguments: list[str], sentence: str) -> None:
    result = weft(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_wrong_settings_are_code_2_and_name_the_nearest_key(tmp_path: Path) -> None:
    (tmp_path / "weft.toml").write_text("[envoy]\nprot = 1\n")
    result = weft("workers")
    assert result.exit_code == 2
    assert "envoy.prot: no such setting; did you mean `envoy.port`?" in result.stderr


@pytest.mark.parametrize("command", [["ask", "x"], ["workers"], ["workers", "--watch"]], ids=" ".join)
def test_when_nothing_answers_the_sentence_says_what_to_do(command: list[str]) -> None:
    with socket.socket() as taken:
        # Bound and not listening: connections are refused, and nobody else gets the port.
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = weft(*command, "--target", address)
    assert result.exit_code == 1
    assert result.stderr == (
        f"weft: nothing answers at {address}: start the mesh with `weft up`, or name it with --target\n"
    )


def test_a_folder_without_documents(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_text("x")
    result = weft("ingest", str(tmp_path))
    assert result.exit_code == 1
    assert "known endings are .csv .docx" in result.stderr
