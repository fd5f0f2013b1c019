"""Every scenario by its name. Each takes a folder for logs, raises when a promise is broken, and returns figures."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.chaos.scenarios import clients, deaths, engines, hangs, leaving, links, llamacpp, poison, routers, storm, web

Figures = dict[str, float]
"""What was measured; the unit is the name's last word."""
Scenario = Callable[[Path], Coroutine[Any, Any, Figures]]

SCENARIOS: dict[str, Scenario] = {
    "killed_worker": deaths.killed_worker,
    "both_killed_one_back": deaths.both_killed_one_back,
    "hung_worker": hangs.hung_worker,
    "hung_engine": engines.hung_engine,
    "failing_engine": engines.failing_engine,
    "stopped_worker": leaving.stopped_worker,
    "stopped_worker_out_of_time": leaving.stopped_worker_out_of_time,
    "rolling_restart": leaving.rolling_restart,
    "cut_link": links.cut_link,
    "silent_link": links.silent_link,
    "restarted_router": routers.restarted_router,
    "clients_that_leave": clients.clients_that_leave,
    "client_that_takes_nothing": clients.client_that_takes_nothing,
    "killed_llamacpp_worker": llamacpp.killed_llamacpp_worker,
    "worker_that_dies_on_every_request": poison.worker_that_dies_on_every_request,
    "request_that_kills": poison.request_that_kills,
    "storm": storm.storm,
    "killed_worker_behind_envoy": web.killed_worker_behind_envoy,
}
