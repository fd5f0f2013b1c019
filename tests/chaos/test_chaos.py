"""Real processes, real signals, real sockets: what a client notices when something breaks under its answer."""

from pathlib import Path

import pytest

from tests.chaos.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("scenario", [pytest.param(found, id=name) for name, found in SCENARIOS.items()])
async def test_answers_survive(scenario: Scenario, tmp_path: Path) -> None:
    await scenario(tmp_path)
