"""A worker that cannot run its model says so in one sentence and ends."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.fakes.tiny_hf import write_tiny_hf


def end_of(python: Path, folder: Path, **vllm: Any) -> tuple[int, str]:
    """Exit code and the failure's sentence."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
    settings = {f"WEFT_WORKER__VLLM__{name.upper()}": json.dumps(value) for name, value in vllm.items()}
    done = subprocess.run(
        [str(python), "-m", "services.worker"],
        cwd=folder,
        env={
            **ours,
            **{name: value.strip('"') for name, value in settings.items()},
            "WEFT_WORKER__ENGINE": "vllm",
            "WEFT_WORKER__PORT": "0",
            "WEFT_WORKER__ADMIN_PORT": "0",
            "WEFT_WORKER__ROUTERS": "[]",
            "PYTHONPATH": path,
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return done.returncode, next((line.get("message", "") for line in lines if line.get("event") == "failed"), "")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("vllm", "says"),
    [
        pytest.param({"extra": {"enable_chunked_prefil": True}}, "did you mean `enable_chunked_prefill`", id="extra"),
        pytest.param({"dtype": "float17"}, "vLLM refuses", id="dtype"),
    ],
)
def test_wrong_settings(python: Path, tmp_path: Path, vllm: dict[str, Any], says: str) -> None:
    code, message = end_of(python, tmp_path, model=str(write_tiny_hf(tmp_path / "tiny")), **vllm)
    assert code == 1
    assert says in message


def test_without_vllm_it_says_what_to_install(tmp_path: Path) -> None:
    main = ROOT / ".venv" / "bin" / "python"
    code, message = end_of(main, tmp_path, model="org/model")
    assert code == 1
    assert "install vllm" in message
