"""CPU time of process trees and of the whole machine, from /proc (Linux only)."""

import os
import resource
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
# Threads that ended are missing from schedstat: beyond this difference a process's ticks are believed instead.
LOST_THREAD_S = 0.05
LOOK_S = 0.4


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds that one process has used: what its scheduler counted to the nanosecond, and its ticks."""

    exact_s: float = 0.0
    ticks_s: float = 0.0

    def since(self, before: "Used") -> float:
        """CPU seconds between the two."""
        exact_s, ticks_s = self.exact_s - before.exact_s, self.ticks_s - before.ticks_s
        return ticks_s if ticks_s - exact_s > LOST_THREAD_S else exact_s


def tree(roots: Iterable[int]) -> set[int]:
    """These processes and all that they started; those that are gone are left out."""
    found: set[int] = set()
    for pid in roots:
        try:
            root = psutil.Process(pid)
            found |= {pid, *(child.pid for child in root.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    return found


def used(pid: int) -> Used:
    """What one process has used; nothing where it is gone."""
    try:
        # The command's name may hold spaces and brackets, so fields are counted from its end.
        fields = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        threads = list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return Used()
    exact_ns = 0
    for thread in threads:
        try:
            exact_ns += int((thread / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return Used(exact_ns / 1e9, (int(fields[11]) + int(fields[12])) * TICK_S)


def tree_used(roots: Iterable[int]) -> dict[int, Used]:
    """What each process of these trees has used, by process id."""
    return {pid: used(pid) for pid in tree(roots)}


def between(before: Mapping[int, Used], after: Mapping[int, Used]) -> float:
    """CPU seconds that the trees used; a process that began in between counts from its start."""
    return sum(now.since(before.get(pid, Used())) for pid, now in after.items())


def busy_s(stat: str) -> float:
    """Seconds in which the machine's cores did something, from /proc/stat; time that the host took away included."""
    user, nice, system, _idle, _iowait, *rest = (int(field) for field in stat.splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) * TICK_S


@dataclass(frozen=True, slots=True)
class Moment:
    """The machine at one time; two of them tell what happened in between."""

    at_s: float
    busy_s: float
    own: Mapping[int, Used]
    reaped_s: float

    @classmethod
    def now(cls) -> "Moment":
        """This moment. A process's children that ended count through `reaped_s`."""
        gone = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = tree_used([os.getpid()])
        return cls(time.monotonic(), busy_s((PROC / "stat").read_text()), own, gone.ru_utime + gone.ru_stime)

    def share_since(self, before: "Moment") -> float:
        """The part of all cores that was busy, 0 to 1."""
        return (self.busy_s - before.busy_s) / ((self.at_s - before.at_s) * (os.cpu_count() or 1))

    def others_since(self, before: "Moment") -> float:
        """Cores that were used by what this process did not start."""
        own_s = between(before.own, self.own) + self.reaped_s - before.reaped_s
        return max(0.0, (self.busy_s - before.busy_s - own_s) / (self.at_s - before.at_s))


def wait_for_quiet(limit_cores: float, limit_s: float) -> None:
    """Returns once others use less than `limit_cores`, or after `limit_s`."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        before = Moment.now()
        time.sleep(LOOK_S)
        if Moment.now().others_since(before) < limit_cores:
            return


def describe() -> str:
    """The machine in one line: processor, cores, memory, kernel."""
    model = "unknown processor"
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {os.uname().release}"


def free_port() -> int:
    """A port of this machine that nobody listens on at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
