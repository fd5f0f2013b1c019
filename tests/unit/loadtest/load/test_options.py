"""What a run may be aimed at, and how: nothing is started or sent here."""

from typing import Any

import pytest

from loadtest.load.commands.options import aimed
from services.cli.problem import UsageProblem


def _refused(**given: Any) -> str:
    """Why these options cannot be; empty where they can."""
    usual = {"model": "", "headers": (), "key_env": "", "tls": False, "ca_file": "", "timeout_s": 1.0}
    wanted: dict[str, Any] = {"address": None, "start": "", "allow_plain_text": False} | usual | given
    try:
        with aimed(wanted.pop("address"), wanted.pop("start"), **wanted):
            return ""
    except UsageProblem as problem:
        return problem.message


@pytest.mark.parametrize("secure", [{"tls": True}, {"ca_file": __file__}], ids=["tls", "ca-file"])
def test_a_mesh_that_is_started_speaks_no_tls(secure: dict[str, Any]) -> None:
    assert "--start: the mesh that is started speaks no TLS" in _refused(start="--engine sim", **secure)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        pytest.param({"key_env": "SOME_KEY"}, "Authorization", id="key"),
        pytest.param({"headers": ["authorization: Basic x"]}, "authorization", id="header"),
        pytest.param({"headers": ["X-Api-Key: x"]}, "X-Api-Key", id="another-header"),
        pytest.param({"key_env": "SOME_KEY", "tls": True}, "", id="tls"),
        pytest.param({"key_env": "SOME_KEY", "ca_file": __file__}, "", id="ca-file"),
        pytest.param({"key_env": "SOME_KEY", "allow_plain_text": True}, "", id="allowed"),
        pytest.param({"key_env": "SOME_KEY", "address": "127.0.0.1:80"}, "", id="this-machine"),
        pytest.param({"headers": ["x-tenant: some"]}, "", id="no-key"),
    ],
)
def test_a_key_goes_to_another_machine_over_tls_alone(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], key: str
) -> None:
    monkeypatch.setenv("SOME_KEY", "secret-word")
    said = _refused(**{"address": "api.example.com:80"} | given)
    if key:
        assert said.startswith(f"{key} would go to api.example.com:80 in plain text")
        assert all(option in said for option in ("--tls", "--ca-file", "--allow-plain-text"))
        assert "secret-word" not in said
    else:
        assert not said
