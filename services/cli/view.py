"""How one process of the mesh is, for tables and lines; it holds no behaviour."""

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """How a process is."""

    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class View:
    """One process as people see it. `pid` is 0 while it does not run; `since_s` is when its state began."""

    name: str
    address: str
    state: State
    pid: int = 0
    restarts: int = 0
    note: str = ""
    since_s: float = 0.0
