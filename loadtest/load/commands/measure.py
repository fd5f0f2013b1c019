"""One measured run of a command: the load with its bar, and what stopped it in words."""

from collections.abc import Iterable, Mapping
from typing import Any

import uvloop

from loadtest.load.commands import output
from loadtest.load.commands.options import Running
from loadtest.load.drive import NoTarget, drive
from loadtest.load.record import Request
from loadtest.load.results import Outcome
from loadtest.load.scenario import Scenario
from services.cli.problem import Problem


def measure(
    aim: Running,
    scenario: Scenario,
    name: str,
    *,
    requests: Iterable[Request] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Outcome:
    """Loads the target; `requests` replace the scenario's own. Raises Problem where nothing answers."""
    with output.progress(name, scenario.length_s) as tick:
        work = drive(
            scenario,
            aim.target,
            name=name,
            requests=requests,
            pids=aim.pids,
            watch=aim.watch,
            on_tick=tick,
            extra=extra,
        )
        try:
            return uvloop.run(work)
        except NoTarget as error:
            raise Problem(str(error)) from error
