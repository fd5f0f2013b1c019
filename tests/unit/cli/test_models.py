"""`weft models`: choosing, downloading, resuming and checking, against a hub on loopback."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import hub as hub_module
from services.cli.commands.models import build_models
from services.cli.group import Commands
from services.cli.hub import Hub
from services.cli.problem import Problem, UsageProblem
from services.cli.pulled import Weights, choose, find, grouped, looks_like_name, parse, pulled
from tests.fakes.hub import FakeHub, fake_hub

DATA = bytes(range(256)) * 4096
REPO = "acme/tiny-GGUF"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with fake_hub() as found:
        found.repos[REPO] = {
            "tiny-Q4_K_M.gguf": DATA,
            "tiny-Q8_0.gguf": DATA[:5000],
            "mmproj-tiny-f16.gguf": b"x",
            "README.md": b"hello",
        }
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


def weft(*arguments: str) -> Any:
    import typer

    app = typer.Typer(cls=Commands)
    app.add_typer(build_models(), name="models")
    return CliRunner().invoke(app, ["models", *arguments])


def partials(folder: Path) -> list[Path]:
    return [path for path in (folder / "models" / ".partial").rglob("*") if path.is_file()]


def test_pull_and_list(hub: FakeHub, tmp_path: Path) -> None:
    result = weft("pull", f"{REPO}:q4_k_m", "--data-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    path = tmp_path / "models" / REPO / "tiny-Q4_K_M.gguf"
    assert path.read_bytes() == DATA
    assert f"weft up --model {REPO}:tiny-Q4_K_M.gguf" in result.stdout
    listed = json.loads(weft("list", "--json", "--data-dir", str(tmp_path)).stdout)
    assert [(row["name"], row["bytes"]) for row in listed] == [(f"{REPO}:tiny-Q4_K_M.gguf", len(DATA))]
    assert find(f"{REPO}:Q4_K_M", tmp_path) == find(REPO, tmp_path) == path


def test_pulling_again_downloads_nothing(hub: FakeHub, tmp_path: Path) -> None:
    for _ in range(2):
        assert weft("pull", f"{REPO}:Q8_0", "--data-dir", str(tmp_path)).exit_code == 0
    assert hub.downloads == 1


def test_several_files_are_listed(hub: FakeHub, tmp_path: Path) -> None:
    result = weft("pull", REPO, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert f"  {REPO}:tiny-Q4_K_M.gguf\n  {REPO}:tiny-Q8_0.gguf" in result.stderr
    assert "mmproj" not in result.stderr
    assert hub.downloads == 0


def test_a_download_that_breaks_off_goes_on_from_there(hub: FakeHub, tmp_path: Path) -> None:
    came: list[float] = []

    def interrupt(count: float) -> None:
        came.append(count)
        if len(came) == 2:
            raise KeyboardInterrupt

    file_bytes = DATA * 24
    hub.repos[REPO]["tiny-Q4_K_M.gguf"] = file_bytes
    repository = Hub().look(REPO)
    file = repository.file("tiny-Q4_K_M.gguf")
    with pytest.raises(KeyboardInterrupt):
        Hub().pull(repository, file, tmp_path, interrupt)
    assert not (tmp_path / "models" / REPO).exists(), "half a file is no model"
    assert pulled(tmp_path) == []
    (partial,) = partials(tmp_path)
    have = partial.stat().st_size
    assert 0 < have < len(file_bytes)
    rest: list[float] = []
    path = Hub().pull(repository, file, tmp_path, rest.append)
    assert path.read_bytes() == file_bytes
    assert hub.ranges == [f"bytes={have}-"]
    assert sum(rest) == len(file_bytes), "the bar counts what was there"
    assert partials(tmp_path) == []


def test_two_commands_do_not_download_the_same_file(hub: FakeHub, tmp_path: Path) -> None:
    repository = Hub().look(REPO)
    file = repository.file("tiny-Q8_0.gguf")

    def pull_again(_: float) -> None:
        with pytest.raises(Problem, match="another command"):
            Hub().pull(repository, file, tmp_path, lambda _: None)

    Hub().pull(repository, file, tmp_path, pull_again)


def test_a_connection_that_is_cut_is_taken_up_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 200_000
    assert weft("pull", f"{REPO}:Q4_K_M", "--data-dir", str(tmp_path)).exit_code == 0
    assert (tmp_path / "models" / REPO / "tiny-Q4_K_M.gguf").read_bytes() == DATA


def test_another_hash_is_no_model(hub: FakeHub, tmp_path: Path) -> None:
    hub.lies = True
    result = weft("pull", f"{REPO}:Q4_K_M", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "another hash" in result.stderr
    assert pulled(tmp_path) == []
    assert partials(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        pytest.param("acme/none", 1, "the hub has no acme/none", id="no-such-repository"),
        pytest.param(f"{REPO}:Q2_K", 2, "no file that fits 'Q2_K'", id="no-such-file"),
        pytest.param("nonsense", 2, "'nonsense' names no model", id="no-name"),
    ],
)
def test_what_is_not_there(hub: FakeHub, tmp_path: Path, name: str, code: int, sentence: str) -> None:
    result = weft("pull", name, "--data-dir", str(tmp_path))
    assert result.exit_code == code
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_gated_model_says_what_to_do(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated = True
    result = weft("pull", REPO, "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "HF_TOKEN" in result.stderr


def test_no_hub_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        result = weft("pull", REPO, "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr
    assert "--model FILE.gguf" in result.stderr


def test_no_room_is_said_before_anything_is_downloaded(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Hub().look(REPO)
    file = repository.file("tiny-Q8_0.gguf")
    usage = hub_module.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(Problem, match="make room"):
        Hub().pull(repository, file, tmp_path, lambda _: None)
    assert hub.downloads == 0


def test_a_model_that_was_not_pulled(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="weft models pull a/b:Q4"):
        find("a/b:Q4", tmp_path)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        pytest.param("a/b", True, id="repository"),
        pytest.param("a/b:Q4_K_M", True, id="quantisation"),
        pytest.param("a/b:c.gguf", True, id="file"),
        pytest.param("./a/b", False, id="relative-path"),
        pytest.param("/a/b", False, id="path"),
        pytest.param("a/b/c.gguf", False, id="path-below"),
        pytest.param("model.gguf", False, id="file-here"),
    ],
)
def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_one: bool) -> None:
    monkeypatch.chdir(tmp_path)
    assert looks_like_name(text) is is_one


def test_parts_are_one_model() -> None:
    parts = [f"q4/big-Q4_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    models = grouped([*reversed(parts), "big-Q8_0.gguf"])
    assert set(models) == {Weights(tuple(parts)), Weights(("big-Q8_0.gguf",))}
    assert choose(models, parse("a/b:Q4_0")).files == tuple(parts)


@pytest.mark.parametrize("name", ["../../../../tiny.gguf", "/tmp/tiny.gguf", "a/../../tiny.gguf", "a//tiny.gguf"])
def test_a_hub_whose_files_lie_elsewhere_is_not_trusted(hub: FakeHub, tmp_path: Path, name: str) -> None:
    hub.repos[REPO] = {name: DATA}
    with pytest.raises(Problem, match="do not trust that hub"):
        Hub().look(REPO)
    result = weft("pull", REPO, "--data-dir", str(tmp_path / "data"))
    assert result.exit_code == 1
    assert not list(tmp_path.rglob("*.gguf"))
