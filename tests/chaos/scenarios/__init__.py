"""Every scenario by its name. Each takes a folder for logs, raises when a promise is broken, and returns figures."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.chaos.scenarios import deaths, hangs, leaving, links

Figures = dict[str, float]
"""What was measured; the unit is the name's last word."""
Scenario = Callable[[Path], Awaitable[Figures]]

SCENARIOS: dict[str, Scenario] = {
    "killed_worker": deaths.killed_worker,
    "both_killed_one_back": deaths.both_killed_one_back,
    "hung_worker": hangs.hung_worker,
    "stopped_worker": leaving.stopped_worker,
    "stopped_worker_out_of_time": leaving.stopped_worker_out_of_time,
    "rolling_restart": leaving.rolling_restart,
    "cut_link": links.cut_link,
    "silent_link": links.silent_link,
}
