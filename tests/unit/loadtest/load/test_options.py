"""What a run may be aimed at, and how: nothing is started or sent here."""

from typing import Any

import pytest

from loadtest.load.commands.options import aimed
from services.cli.problem import UsageProblem


def _refused(**given: Any) -> str:
    """Why these options cannot be; empty where they can."""
    usual: dict[str, Any] = {"model": "", "headers": (), "key_env": "", "tls": False, "ca_file": "", "timeout_s": 1.0}
    wanted = {"address": None, "start": ""} | usual | given
    try:
        with aimed(wanted.pop("address"), wanted.pop("start"), **wanted):
            return ""
    except UsageProblem as problem:
        return problem.message


@pytest.mark.parametrize("secure", [{"tls": True}, {"ca_file": __file__}], ids=["tls", "ca-file"])
def test_a_mesh_that_is_started_speaks_no_tls(secure: dict[str, Any]) -> None:
    assert "--start: the mesh that is started speaks no TLS" in _refused(start="--engine sim", **secure)
