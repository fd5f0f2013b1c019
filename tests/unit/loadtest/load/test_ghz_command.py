"""`weft load ghz` when it is stopped: what it leaves, and which signals stop it. The ghz here is a script."""

import json
import signal
from pathlib import Path

import pytest

from loadtest.load.commands.ghz import ghz
from services.cli.problem import Problem

SCENARIOS = "".join(
    f'[{name}]\nabout = ""\ncall = "some.Service/{name}"\ndata = {{}}\n' for name in ("first", "second", "third")
)
REPORT = """echo '{"count": 1, "rps": 1}'"""


@pytest.fixture
def scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three of them, in a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("loadtest.load.ghz.ROOT", tmp_path)
    file = tmp_path / "some.toml"
    file.write_text(SCENARIOS)
    return file


def _tool(folder: Path, on_second: str) -> None:
    file = folder / ".tools" / "bin" / "ghz"
    file.parent.mkdir(parents=True)
    file.write_text(f'#!/bin/sh\ncase "$*" in *Service/second*) {on_second};; esac\n{REPORT}\n')
    file.chmod(0o755)


def _left(folder: Path) -> list[str]:
    [file] = folder.glob("*/ghz.json")
    return list(json.loads(file.read_text())["scenarios"])


@pytest.mark.parametrize("ignored", [False, True], ids=["usual", "in-the-background"])
def test_what_had_ended_is_left_where_ghz_has_nothing_to_report(scenarios: Path, tmp_path: Path, ignored: bool) -> None:
    _tool(tmp_path, "kill -INT $PPID; exit")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(Problem, match="stopped: the figures are of the calls until then") as caught:
            ghz(file=scenarios, address="127.0.0.1:1", out=tmp_path / "out")
        after = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught.value.exit_code == 130
    assert _left(tmp_path / "out") == ["first"]
    assert after == (signal.SIG_IGN if ignored else before)


def test_nothing_is_written_where_no_call_had_ended(scenarios: Path, tmp_path: Path) -> None:
    _tool(tmp_path, "kill -INT $PPID; exit")
    with pytest.raises(Problem, match="stopped: there are no figures yet") as caught:
        ghz(["second"], file=scenarios, address="127.0.0.1:1", out=tmp_path / "out")
    assert caught.value.exit_code == 130
    assert not [*(tmp_path / "out").iterdir()]


def test_a_hangup_does_not_stop_what_nohup_started(scenarios: Path, tmp_path: Path) -> None:
    _tool(tmp_path, "kill -HUP $PPID")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ghz(file=scenarios, address="127.0.0.1:1", out=tmp_path / "out")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert _left(tmp_path / "out") == ["first", "second", "third"]
