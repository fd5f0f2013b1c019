"""The sampler that runs inside vLLM, checked by the interpreter that has torch."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

CHECKS = 5


@pytest.mark.timeout(300)
def test_the_samplers_numbers(python: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    done = subprocess.run(
        [str(python), "-m", "tests.vllm.sampler_checks"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum(line.startswith("check_") for line in done.stdout.splitlines()) == CHECKS
