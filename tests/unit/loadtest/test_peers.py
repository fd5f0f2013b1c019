"""Where the peers are missing, one sentence says what helps."""

from pathlib import Path

import pytest

from loadtest.peers import NoPeers, find

HARNESS = """
import os, pathlib
LAB = pathlib.Path(os.environ["PEERS_HOME"])
"""


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS_DIR", str(tmp_path / "gone"))
    with pytest.raises(NoPeers, match=r"gone holds no run_peers\.py; set PEERS_DIR"):
        find(["smg-rr"])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        pytest.param(["caddy"], "no peer is called caddy; there are smg-rr", id="unknown"),
        pytest.param(["smg-rr"], "did not install smg: no network here", id="not-installed"),
    ],
)
def test_what_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], sentence: str) -> None:
    (tmp_path / "run_peers.py").write_text(HARNESS)
    (tmp_path / "setup.sh").write_text("echo no network here >&2; exit 1\n")
    monkeypatch.setenv("PEERS_DIR", str(tmp_path))
    monkeypatch.setenv("PEERS_HOME", str(tmp_path / "home"))
    with pytest.raises(NoPeers, match=sentence):
        find(names)
    assert not list(tmp_path.rglob("__pycache__"))
